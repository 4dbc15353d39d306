def quick_probe(train, test, n):
    return {}


def collapse_warnings(a, b):
    return []
