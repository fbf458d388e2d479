#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""posix.py FOLDER: what POSIX and Linux promise of a file system, asked of FOLDER; a line an answer. The same on two file systems
that keep the promises: `long-ci-files` compares a shared folder in a guest with the folder itself on its host."""
import ctypes, errno, fcntl, mmap, os, stat, sys, threading

top = sys.argv[1]
os.chdir(top)
os.umask(0o022)


def ask(name, f):
    try:
        answer = f()
    except OSError as e:
        answer = errno.errorcode.get(e.errno, e.errno)
    print(f'{name}: {answer}', flush=True)


def put(name, data=b'data', flags=os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode=0o644):
    fd = os.open(name, flags, mode)
    os.write(fd, data)
    os.close(fd)


def get(name):
    with open(name, 'rb') as f:
        return f.read()


def st(name, *what):
    s = os.lstat(name)
    return [oct(s.st_mode) if w == 'mode' else getattr(s, 'st_' + w) for w in what]


def creating():
    put('a')
    ask('O_EXCL on what exists', lambda: os.open('a', os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    ask('O_CREAT without a folder', lambda: os.open('none/a', os.O_CREAT | os.O_WRONLY))
    ask('open a folder to write', lambda: os.open('.', os.O_WRONLY))
    ask('O_DIRECTORY on a file', lambda: os.open('a', os.O_DIRECTORY))
    ask('a file as a folder', lambda: os.stat('a/b'))
    for mode in (0o644, 0o4755, 0o2750, 0o1777, 0):
        put(f'm{mode:o}', mode=mode)
        ask(f'made with {mode:o}', lambda: st(f'm{mode:o}', 'mode', 'size', 'nlink'))
        os.chmod(f'm{mode:o}', mode)
        ask(f'changed to {mode:o}', lambda: st(f'm{mode:o}', 'mode'))
    os.mkdir('d', 0o3775)
    ask('a folder', lambda: st('d', 'mode', 'nlink'))
    ask('mkdir on what exists', lambda: os.mkdir('d'))
    ask('a name of 255 bytes', lambda: put('n' * 255))
    ask('a name of 256 bytes', lambda: put('n' * 256))
    for odd in ('new\nline', ' space ', '-', 'ä\\"*?', b'\xff\xfe', '...'):
        ask(f'the name {odd!r}', lambda: (put(odd), odd in os.listdir(b'.' if isinstance(odd, bytes) else '.'), os.unlink(odd))[1])
    os.mkfifo('fifo', 0o600)
    ask('a FIFO', lambda: st('fifo', 'mode'))


def linking():
    put('l1', b'one')
    os.link('l1', 'l2')
    ask('two links', lambda: (st('l1', 'nlink'), os.path.samefile('l1', 'l2')))
    put('l2', b'two')
    ask('one file', lambda: get('l1'))
    ask('link over what exists', lambda: os.link('l1', 'a'))
    ask('link of a folder', lambda: os.link('d', 'd2'))
    os.unlink('l1')
    ask('one link less', lambda: st('l2', 'nlink'))
    os.symlink('l2', 's')
    ask('a symbolic link', lambda: (os.readlink('s'), st('s', 'mode', 'size'), get('s')))
    ask('O_NOFOLLOW', lambda: os.open('s', os.O_NOFOLLOW))
    os.symlink('s2', 's1'), os.symlink('s1', 's2')
    ask('a loop', lambda: os.stat('s1'))
    os.symlink('nowhere', 'dangling')
    ask('a dangling one', lambda: os.open('dangling', os.O_RDONLY))
    ask('O_EXCL through it', lambda: os.open('dangling', os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    ask('a long target', lambda: (os.symlink('x' * 4000, 'long'), len(os.readlink('long')))[1])


def renaming():
    put('r1', b'1'), put('r2', b'2')
    fd = os.open('r2', os.O_RDONLY)
    os.rename('r1', 'r2')
    ask('rename over', lambda: (get('r2'), os.path.exists('r1'), os.read(fd, 9), os.fstat(fd).st_nlink))
    os.close(fd)
    os.makedirs('e/f'), os.makedirs('g')
    ask('a folder over an empty one', lambda: os.rename('e', 'g'))
    ask('a folder over a full one', lambda: (os.mkdir('h'), os.rename('h', 'g'))[1])
    ask('a folder into itself', lambda: os.rename('g', 'g/f/x'))
    ask('a file over a folder', lambda: os.rename('r2', 'g'))
    ask('a folder over a file', lambda: os.rename('g', 'r2'))
    os.link('r2', 'r3')
    ask('over another link of itself', lambda: (os.rename('r2', 'r3'), sorted(n for n in os.listdir('.') if n[0] == 'r')))
    put('open', b'old')
    fd = os.open('open', os.O_RDWR)
    os.rename('open', 'g/opened')
    os.pwrite(fd, b'new', 0)
    ask('written after its move', lambda: get('g/opened'))
    os.close(fd)
    # While one name is replaced again and again it is never missing, and never half.
    put('atomic', b'A' * 1000)
    stop, bad = [], []

    def look():
        while not stop:
            try:
                d = get('atomic')
                if d not in (b'A' * 1000, b'B' * 1000):
                    bad.append(len(d))
            except OSError as e:
                if e.errno != errno.ESTALE:
                    bad.append(e.errno)
    t = threading.Thread(target=look)
    t.start()
    for i in range(100):
        put('atomic.new', (b'A', b'B')[i & 1] * 1000)
        os.rename('atomic.new', 'atomic')
    stop.append(1)
    t.join()
    ask('atomic', lambda: bad)


def removing():
    put('u', b'still here')
    fd = os.open('u', os.O_RDWR)
    os.unlink('u')
    ask('unlinked and open', lambda: (os.read(fd, 99), os.fstat(fd).st_nlink, os.path.exists('u')))
    ask('written to', lambda: (os.pwrite(fd, b'more', 20), os.fstat(fd).st_size, os.ftruncate(fd, 3), os.fstat(fd).st_size))
    os.close(fd)
    ask('rmdir of a full folder', lambda: os.rmdir('g'))
    ask('rmdir of a file', lambda: os.rmdir('a'))
    ask('unlink of a folder', lambda: os.unlink('d'))
    ask('unlink of nothing', lambda: os.unlink('none'))
    os.mkdir('many')
    for i in range(1500):
        put(f'many/{i}', b'')
    names = os.listdir('many')
    ask('1500 names', lambda: (len(names), len(set(names)), sorted(map(int, names)) == list(range(1500))))
    for i, e in enumerate(os.scandir('many')):
        os.unlink(e.path)
    ask('removed while listed', lambda: len(os.listdir('many')))
    ask('rmdir', lambda: os.rmdir('many'))


def contents():
    fd = os.open('c', os.O_CREAT | os.O_RDWR | os.O_TRUNC)
    ask('a hole', lambda: (os.pwrite(fd, b'end', 1000000), os.fstat(fd).st_size, os.pread(fd, 3, 5), os.pread(fd, 9, 1000000)))
    ask('grown', lambda: (os.ftruncate(fd, 2000000), os.pread(fd, 4, 1999999)))
    ask('cut', lambda: (os.ftruncate(fd, 10), os.pread(fd, 99, 0), os.fstat(fd).st_size))
    ask('over 4 GiB', lambda: (os.pwrite(fd, b'far', (5 << 30)), os.fstat(fd).st_size, os.pread(fd, 3, 5 << 30), os.ftruncate(fd, 0)))
    ask('fsync', lambda: (os.fsync(fd), os.fdatasync(fd)))
    ask('negative', lambda: os.ftruncate(fd, -1))
    os.close(fd)
    put('app', b'1')
    a, b = (os.open('app', os.O_WRONLY | os.O_APPEND) for _ in 'ab')
    for i in range(50):
        os.write(a, b'a'), os.write(b, b'b')
    ask('two that append', lambda: get('app'))
    os.close(a), os.close(b)
    ask('read of a file to write', lambda: os.read(os.open('app', os.O_WRONLY), 1))
    put('map', bytes(20000))
    with open('map', 'r+b') as f:
        m = mmap.mmap(f.fileno(), 20000)
        m[5000:5004] = b'MMAP'
        m.flush()
        ask('mapped, written', lambda: get('map')[4999:5005])
        os.pwrite(f.fileno(), b'pwrite', 9000)
        ask('written, mapped', lambda: bytes(m[9000:9006]))
        m.close()
    try:
        fd = os.open('direct', os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    except OSError:     # a host's tmpfs may not have it, while Linux's 9p client does it itself
        fd = os.open('direct', os.O_CREAT | os.O_RDWR)
    page = mmap.mmap(-1, 8192)
    page[:] = b'D' * 8192
    ask('O_DIRECT', lambda: (os.writev(fd, [page]), os.lseek(fd, 0, 0), os.readv(fd, [page]), page[:3], os.fstat(fd).st_size))
    os.close(fd)


def attributes():
    put('t')
    # Whole seconds: Linux's 9p client sets no finer ones, whatever the server can (s_time_gran).
    os.utime('t', ns=(10**18, 2 * 10**18))
    ask('times', lambda: st('t', 'atime_ns', 'mtime_ns'))
    before = os.stat('t').st_ctime_ns
    os.chmod('t', 0o600)
    ask('ctime moves', lambda: os.stat('t').st_ctime_ns >= before)
    os.symlink('t', 'ts')
    os.utime('ts', ns=(5, 7 * 10**9), follow_symlinks=False)
    ask('times of a link', lambda: (st('ts', 'mtime_ns'), st('t', 'mtime_ns')))
    if os.getuid() == 0:
        os.chown('t', 12, 34)
        ask('owner', lambda: st('t', 'uid', 'gid'))
        os.chown('ts', 56, 78, follow_symlinks=False)
        ask('owner of a link', lambda: (st('ts', 'uid', 'gid'), st('t', 'uid', 'gid')))
    for name in ('user.one', 'user.two'):
        ask(f'set {name}', lambda: os.setxattr('t', name, b'v' * 100))
    ask('listed', lambda: sorted(n for n in os.listxattr('t') if n.startswith('user.')))
    ask('XATTR_CREATE', lambda: os.setxattr('t', 'user.one', b'x', os.XATTR_CREATE))
    ask('XATTR_REPLACE', lambda: os.setxattr('t', 'user.three', b'x', os.XATTR_REPLACE))
    ask('empty', lambda: (os.setxattr('t', 'user.empty', b''), os.getxattr('t', 'user.empty')))
    ask('removed', lambda: (os.removexattr('t', 'user.one'), sorted(n for n in os.listxattr('t') if n.startswith('user.'))))
    ask('read', lambda: len(os.getxattr('t', 'user.two')))
    ask('not there', lambda: os.getxattr('t', 'user.one'))
    s = os.statvfs('.')
    ask('statvfs', lambda: (s.f_namemax, s.f_blocks > 0, s.f_bavail > 0))


def locking():
    put('lock', bytes(100))
    a = os.open('lock', os.O_RDWR)
    fcntl.lockf(a, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 20)

    def child(start, how):
        pid = os.fork()
        if pid == 0:
            try:
                fcntl.lockf(os.open('lock', os.O_RDWR), how | fcntl.LOCK_NB, 10, start)
                os._exit(0)
            except OSError as e:
                os._exit(1 if e.errno in (errno.EAGAIN, errno.EACCES) else 2)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    ask('locked by another', lambda: child(25, fcntl.LOCK_EX))
    ask('beside it', lambda: child(40, fcntl.LOCK_EX))
    fcntl.lockf(a, fcntl.LOCK_SH, 10, 20)
    ask('shared', lambda: (child(20, fcntl.LOCK_SH), child(20, fcntl.LOCK_EX)))
    fcntl.lockf(a, fcntl.LOCK_UN, 10, 20)
    ask('freed', lambda: child(20, fcntl.LOCK_EX))
    b = os.open('lock', os.O_RDWR)
    fcntl.flock(a, fcntl.LOCK_EX)
    ask('flock', lambda: fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB))
    os.close(a)
    ask('flock freed by close', lambda: fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB))


for part in (creating, linking, renaming, removing, contents, attributes, locking):
    print(f'== {part.__name__}')
    try:
        part()
    except Exception as e:
        print(f'{part.__name__} ended: {type(e).__name__}: {e}')
