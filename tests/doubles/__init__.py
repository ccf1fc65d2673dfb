"""The ports in memory, over one World with a settable clock: what the laws and other tests run the loop on."""
