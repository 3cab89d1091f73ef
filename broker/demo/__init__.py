"""What `homerealm demo` adds: a relying party, an upstream provider, sample people, a mailbox viewer."""
