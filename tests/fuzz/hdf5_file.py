"""Fuzz the reader of HDF5 weights files: what is read of them, and every array."""

from driver import fuzz


def load():
    """Return what takes the bytes of a file."""
    from tlkit.models.hdf5 import read_hdf5
    from tlkit.models.weights import count_arrays

    def read(data):
        root = read_hdf5(data, "fuzzed.h5")
        count_arrays(root)
        for _, array in root.walk():
            array.read()

    return read


def seeds():
    """Yield small valid files."""
    from small_files import hdf5

    yield hdf5()
    yield hdf5(legacy=True)
    yield hdf5(chunks=(2, 2), compression="gzip", shuffle=True)


if __name__ == "__main__":
    fuzz(load, seeds, ["tlkit.models.hdf5"])
