"""Ways to compute a convolution and its gradients, chosen by backend and shape."""
