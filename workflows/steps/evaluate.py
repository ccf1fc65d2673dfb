def arguments(p):
    pass


def run(o):
    pass
