"""The distribution specification over HTTP. The only package that knows that there are requests and statuses."""
