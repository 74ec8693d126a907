import os
import subprocess
import sys

import pytest

FLAG = "--xla_cpu_experimental_ynn_fusion_type"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"{FLAG}=dot,individual_dot"),
        ("--xla_cpu_enable_fast_math=false", f"--xla_cpu_enable_fast_math=false {FLAG}=dot,individual_dot"),
        (f"{FLAG}=", f"{FLAG}="),  # what the user has chosen stays
    ],
)
def test_importing_the_package_sets_the_flag_that_jax_then_accepts(before, after):
    code = "import tiledseg_utils, jax, os; jax.numpy.zeros(1); print(os.environ['XLA_FLAGS'])"
    environment = {**os.environ, "XLA_FLAGS": before}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == after
