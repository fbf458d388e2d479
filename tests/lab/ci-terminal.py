#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""ci-terminal.py MINIVMM-CI ARGS...: sits at the shell that it starts, as a person at a terminal does. Ends with 0 when all was right."""
import fcntl, os, pty, select, struct, sys, termios, time


def size(rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))


def until(what, seconds=180):
    got, end = b'', time.time() + seconds
    while what not in got:
        if not select.select([fd], [], [], max(0, end - time.time()))[0]:
            os.write(fd, b'\r')
            more = os.read(fd, 4096) if select.select([fd], [], [], 20)[0] else b''
            sys.exit(f'not seen: {what!r}; but {got[-600:]!r}; and after Enter: {more!r}')
        try:
            piece = os.read(fd, 4096)
        except OSError:
            piece = b''
        if not piece:
            sys.exit(f'ended before {what!r}: {got[-2000:]!r}')
        got += piece
    return got


def types(text, then, want=b''):
    os.write(fd, text)
    got = until(then)
    print(got.decode(errors='replace'))
    if want not in got:
        sys.exit(f'{want!r} is not in {got!r}')


pid, fd = pty.fork()
if pid == 0:
    os.environ.update(SHELL='/bin/bash', PS1='P> ')
    os.execv(sys.argv[1], sys.argv[1:])
size(33, 99)
until(b'# ')
types(b'stty size; echo A$((1+1))A\r', b'A2A\r\n', b'33 99')
size(40, 120)
time.sleep(2)
types(b'stty size; echo B$((1+1))B\r', b'B2B\r\n', b'40 120')
os.write(fd, b'sleep 1000\r')
time.sleep(4)
types(b'\x03', b'# ')
os.write(fd, b'sleep 1000\r')
time.sleep(4)
types(b'\x1a', b'Stopped')
# A second: bash does not exit before the job has had its turn to die.
types(b'jobs; kill %1; sleep 1; echo C$((1+1))C\r', b'C2C\r\n', b'Stopped')
os.write(fd, b'exit 9\r')
said = b''
try:
    while piece := os.read(fd, 4096):
        said += piece
except OSError:
    pass
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.exit(0 if status == 9 else f'ended with {status}, after exit: {said!r}')
