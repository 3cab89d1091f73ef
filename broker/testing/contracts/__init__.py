"""What every implementation of a port or a capability has to do, as test classes to inherit from."""
