"""Rewrites its memory and checks it against checksums, over and over: a wrong byte ends it. The number of rounds goes to argv[1]."""
import hashlib
import sys

BUFFERS = 4
SIZE = 1 << 20


def content(round_number, index):
    return hashlib.shake_128(b"%d %d" % (round_number, index)).digest(SIZE)


held = [bytearray(content(0, index)) for index in range(BUFFERS)]
sums = [hashlib.sha256(buffer).digest() for buffer in held]
round_number = 0
while True:
    round_number += 1
    for index, buffer in enumerate(held):
        if hashlib.sha256(buffer).digest() != sums[index]:
            sys.exit("buffer %d is wrong in round %d" % (index, round_number))
    index = round_number % BUFFERS
    held[index][:] = content(round_number, index)
    sums[index] = hashlib.sha256(content(round_number, index)).digest()
    with open(sys.argv[1], "w") as out:
        out.write("%d\n" % round_number)
