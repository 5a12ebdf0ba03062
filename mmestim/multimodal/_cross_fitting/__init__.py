"""Cross-fitting of branches: networks of folds, their outputs on rows they have not seen, and fusion weights."""
