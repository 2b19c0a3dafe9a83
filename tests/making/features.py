"""Features written to a cache."""


def put(cache, key, features, batch=2):
    """Cache features (N, D) as they come from a backbone, in batches."""
    incoming = cache.incoming(key, len(features))
    for start in range(0, len(features), batch):
        incoming.add(features[start : start + batch])
    return cache.put(incoming, {})
