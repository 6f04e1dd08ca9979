"""Storage drivers: keys and bytes. They know nothing of images, repositories or HTTP."""
