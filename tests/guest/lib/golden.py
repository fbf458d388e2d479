# SPDX-License-Identifier: GPL-2.0-or-later
"""golden.py: the machines of tests/golden/states: what surrounds them, how they are kept, how one is talked to."""
import lzma, os, shlex, struct, subprocess

from machine import *

STATES = os.path.join(os.path.dirname(HERE), 'golden/states')
HOLE = 65536


def sectors(path, n, sig=b'GOLD'):
    """A disk of n sectors as more/golden.c knows them."""
    words = [i * 259 & 0xffff for i in range(256)]
    with open(path, 'wb') as f:
        for s in range(n):
            f.write(sig + struct.pack('<HH', s, 0) + struct.pack('<252H', *words[4:]))


def surroundings(folder, image=None):
    """The files that the command lines name."""
    sectors(f'{folder}/disk.raw', 2048)
    sectors(f'{folder}/ide.raw', 2048)
    sectors(f'{folder}/late.raw', 2048)
    sectors(f'{folder}/cd.iso', 64)
    with open(f'{folder}/flash.raw', 'wb') as f:
        f.write(b'\xff' * 4096 + b'GOLD' + b'\xff' * (65536 - 4100))
    os.mkdir(f'{folder}/share')
    os.symlink(f'{GUESTS}/golden.bin', f'{folder}/golden.bin')
    if image:
        with open(f'{folder}/disk.qcow2', 'wb') as f:
            unpack(image, f)


def pack(path, to):
    with open(path, 'rb') as f, lzma.open(to, 'wb', preset=9, check=lzma.CHECK_CRC64) as z:
        while data := f.read(1 << 20):
            z.write(data)


def unpack(path, f):
    """Zeros become holes, as they were."""
    zeros = bytes(HOLE)
    with lzma.open(path) as z:
        while data := z.read(HOLE):
            if data == zeros[:len(data)]:
                f.seek(len(data), 1)
            else:
                f.write(data)
    f.truncate()


def read_args(path):
    """{'made': [...], 'plugged': [lines], 'restored': [...]}; see states/README.md."""
    lines = [l.rstrip('\n').split(': ', 1) for l in open(path) if not l.startswith('#')]
    r = {'made': [], 'plugged': [v for k, v in lines if k == 'plugged'], 'restored': None, 'limit': None}
    for k, v in lines:
        if k in ('made', 'restored'):
            r[k] = shlex.split(v)
        elif k == 'limit':
            r[k] = int(v)
    r['restored'] = r['restored'] or r['made']
    return r


class Golden(Machine):
    """A machine with more/golden.c, or firmware, that is spoken to over its first serial port."""

    def __init__(self, folder, name, args, vmm=VMM, limit=None):
        self.console, self.log, self.sock = (f'{folder}/{name}.{x}' for x in ('out', 'err', 'qmp'))
        self.err = open(self.log, 'w')
        def before():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            if limit:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        with open(self.console, 'w') as out:
            self.p = subprocess.Popen([vmm, *args, '-display', 'none', '-qmp', f'unix:{self.sock},server,nowait'], cwd=folder, stdin=subprocess.PIPE,
                                      stdout=out if not limit else subprocess.PIPE, stderr=self.err, preexec_fn=before)
        if limit:       # a file would end at the limit, a pipe does not
            threading.Thread(target=self.copy, daemon=True).start()
        self.f = None
        machines.append(self)

    def copy(self):
        with open(self.console, 'wb', 0) as out:
            while data := os.read(self.p.stdout.fileno(), 4096):
                out.write(data)

    def text(self, path=None):
        with open(path or self.console, errors='replace') as f:
            return f.read()

    def says(self, word):
        wait(lambda: word in self.text() or 'FAILED' in self.text() or self.p.poll() is not None, f'"{word}"')
        assert 'FAILED' not in self.text(), self.text()[-300:]
        assert word in self.text(), f'ended before "{word}": {self.text()[-300:]} {self.errors()}'

    def go(self):
        self.p.stdin.write(b'x')
        self.p.stdin.flush()
