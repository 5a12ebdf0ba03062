"""Networks of several modalities: branches, fusion heads, late fusion and the joint network."""
