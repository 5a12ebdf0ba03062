"""One fit on several processes of `torch.distributed`."""
