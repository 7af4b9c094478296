"""How good a model is: metrics, calibration, the bits-per-dimension ruler, sample quality, cross-validation."""
