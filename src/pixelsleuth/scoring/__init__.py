"""From codes and residuals to numbers: surprise scores, restorations, maps, calibration."""
