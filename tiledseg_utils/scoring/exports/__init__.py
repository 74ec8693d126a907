"""Nuclei for other programs: outlines for QuPath (GeoJSON) and ImageJ (ROI), and a picture to look at."""
