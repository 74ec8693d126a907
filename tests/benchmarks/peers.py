"""The same network and tiling in PyTorch and MONAI. Imported only by the benchmark: needs the extra `bench`."""

import os
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

torch.set_num_threads(os.cpu_count() or 1)  # PyTorch would count physical cores only.


class UNet(nn.Module):
    """`tiledseg_utils.models.unet` without normalisation, layer by layer: (N, 3, H, W) 0 to 255, to (N, 1, H, W).

    The modules are made in the order of the layers of the Keras model, which `with_weights_of` relies on.
    """

    def __init__(self, base_filters: int, levels: int, first_kernel: int = 3, dropout: float = 0.0):
        super().__init__()
        filters = [base_filters * 2**level for level in range(levels)]

        def block(level: int, before: int) -> nn.Sequential:
            after, kernel = filters[level], max(3, first_kernel - 2 * level)
            first = [nn.Conv2d(before, after, kernel, padding="same"), nn.ReLU(inplace=True)]
            between = [nn.Dropout(dropout * level)] if dropout * level else []
            return nn.Sequential(
                *first, *between, nn.Conv2d(after, after, kernel, padding="same"), nn.ReLU(inplace=True)
            )

        self.down = nn.ModuleList(block(level, before) for level, before in enumerate([3, *filters[:-1]]))
        self.up = nn.ModuleList(
            nn.ModuleList(
                [nn.ConvTranspose2d(2 * filters[level], filters[level], 2, 2), block(level, filters[level + 1])]
            )
            for level in reversed(range(levels - 1))
        )
        self.last = nn.Conv2d(base_filters, 1, 1)

    def forward(self, x):
        x, skips = x / 255, []
        for level, block in enumerate(self.down):
            x = block(nn.functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        for enlarge, block in self.up:
            x = block(torch.cat([enlarge(x), skips.pop()], dim=1))
        return torch.sigmoid(self.last(x))

    def with_weights_of(self, model) -> "UNet":
        """Take the weights of a Keras model; ValueError where the layers do not correspond."""
        modules = [module for module in self.modules() if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))]
        for module, layer in zip(modules, [layer for layer in model.layers if layer.weights], strict=True):
            kernel, bias = (torch.from_numpy(np.array(weight)) for weight in layer.weights)
            # Keras keeps (rows, columns, in, out), transposed convolutions (rows, columns, out, in); PyTorch has
            # (out, in, rows, columns) and (in, out, rows, columns): one transposition serves both.
            kernel = kernel.permute(3, 2, 0, 1)
            if (kernel.shape, bias.shape) != (module.weight.shape, module.bias.shape):
                raise ValueError(f"{layer.name} does not correspond to {module}.")
            with torch.no_grad():
                module.weight.copy_(kernel)
                module.bias.copy_(bias)
        return self.eval()


class Monai:
    """MONAI's sliding window, with the windows that its bundles use: (H, W, 3) uint8 to (H, W) float32.

    Args:
        network: takes and returns (N, C, H, W).
        channels_last: keep activations as (N, H, W, C) in memory, which CPUs and Keras prefer; not PyTorch's default.
    """

    def __init__(self, network: nn.Module, channels_last: bool):
        from monai.inferers import sliding_window_inference  # Not needed for training.

        self.slide = sliding_window_inference
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self.memory_format)

    def batch(self, image: np.ndarray) -> torch.Tensor:
        # Float, because MONAI also weighs and adds up the windows' results in the type of its input.
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        return pixels.contiguous(memory_format=self.memory_format)

    @torch.inference_mode()
    def predict_whole(self, image: np.ndarray) -> np.ndarray:
        """Without windows; the sides must be multiples of the network's pooling."""
        return self.network(self.batch(image))[0, 0].numpy()

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        result = self.slide(self.batch(image), (512, 512), 2, self.network, overlap=0.25, mode="gaussian")
        return result[0, 0].numpy()


def torch_training_step(
    network: nn.Module, images: np.ndarray, masks: np.ndarray, learning_rate: float
) -> Callable[[], float]:
    """A step of Adam on BCE-Dice, gradients clipped by value, as `training.fit` sets it up; returns the loss.

    On a GPU, the network is compiled, and its layers compute in bfloat16.

    Args:
        network: see `UNet`.
        images, masks: (N, H, W, 3) uint8 and (N, H, W, 1) float32.
        learning_rate: of Adam.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = network.train().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)
    forward = torch.compile(network) if device == "cuda" else network

    def step() -> float:
        pixels, truth = (torch.from_numpy(array).to(device).permute(0, 3, 1, 2).float() for array in (images, masks))
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            probability = forward(pixels)
        probability = probability.float()
        entropy = nn.functional.binary_cross_entropy(probability, truth)
        dice = (2 * (truth * probability).sum() + 1) / (truth.sum() + probability.sum() + 1)
        loss = (entropy + 1 - dice) / 2
        loss.backward()
        nn.utils.clip_grad_value_(network.parameters(), 0.5)
        optimizer.step()
        return loss.item()

    return step
