"""Holds bytes in a process, in tmpfs and on the disk, and changes them on command: the guest's side of guest_chains_test.ts.

Reads lines from a FIFO (TARGET ACTION SEED OFFSET LENGTH, or "sums") and answers each group that ends with "sums" with one line:
the SHA-256 of each target. TARGET: process, tmpfs, disk. ACTION: fill, zero, free.
"""
import hashlib
import mmap
import os
import sys

MIB = 1 << 20
SIZES = {"process": 4 * MIB, "tmpfs": 2 * MIB, "disk": 2 * MIB}
PATHS = {"tmpfs": "/dev/shm/held", "disk": "/root/held"}
PUNCH_HOLE = "fallocate --punch-hole --offset %d --length %d %s"


def content(seed, length):
    return hashlib.shake_128(seed.encode()).digest(length)


process = mmap.mmap(-1, SIZES["process"], flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
files = {name: open(path, "w+b", buffering=0) for name, path in PATHS.items()}
for name, file in files.items():
    file.truncate(SIZES[name])


def write(target, offset, data):
    if target == "process":
        process[offset : offset + len(data)] = data
    else:
        os.pwrite(files[target].fileno(), data, offset)


def free(target, offset, length):
    if target == "process":
        process.madvise(mmap.MADV_DONTNEED, offset, length)
    elif os.system(PUNCH_HOLE % (offset, length, PATHS[target])) != 0:
        raise OSError("fallocate failed")


def obey(line):
    target, action, seed, offset, length = line.split()
    offset, length = int(offset), int(length)
    if action == "fill":
        write(target, offset, content(seed, length))
    elif action == "zero":
        write(target, offset, bytes(length))
    else:
        free(target, offset, length)


def sums():
    held = {name: os.pread(file.fileno(), SIZES[name], 0) for name, file in files.items()}
    held["process"] = process[:]
    return " ".join("%s=%s" % (name, hashlib.sha256(held[name]).hexdigest()) for name in sorted(held))


commands, answers = sys.argv[1:3]
while True:
    with open(commands) as lines:
        for line in lines:
            if line.strip() != "sums":
                obey(line)
                continue
            for file in files.values():
                os.fsync(file.fileno())
            with open(answers, "w") as answer:
                answer.write(sums() + "\n")
