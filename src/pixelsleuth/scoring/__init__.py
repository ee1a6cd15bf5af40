"""Turn codes and residuals into numbers: surprise scores, restorations, maps, calibration."""
