// Work in another network namespace.
#ifndef TORPOR_NETWORK_NAMESPACE_H
#define TORPOR_NETWORK_NAMESPACE_H

// Runs `work` in the network namespace at `path` (NULL: in this one) and returns what it returns, or a negative errno.
int in_network_namespace(const char *path, int (*work)(void *), void *argument);

#endif
