"""What the manifests mean: routes, subsets, Services and pods."""
