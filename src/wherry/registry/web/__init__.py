"""What people see of the registry in a browser: pages rendered here, readable without JavaScript."""
