# SPDX-License-Identifier: GPL-2.0-or-later
"""machine.py: machines with the counting guest (more/count.c) for suites that save, move and kill them; their TAP.

The guest counts aloud and checks every page it wrote: a gap, a repetition or its FAILED shows what was lost.
"""
import hashlib, json, os, random, resource, signal, socket, subprocess, sys, tempfile, threading, time, traceback

HERE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
BUILD = os.path.realpath(os.environ.get('BUILD', os.path.join(HERE, '../../build')))
VMM, GUESTS = BUILD + '/minivmm', BUILD + '/tests/guest'
MEM = '64'


class Skip(Exception):
    pass


class Machine:
    """One minivmm with the counting guest (or another one), its console in a file, a control socket."""

    def __init__(self, folder, name, *args, mem=MEM, guest='count'):
        self.console, self.log, sock = (f'{folder}/{name}.{x}' for x in ('out', 'err', 'qmp'))
        self.err = open(self.log, 'w')
        self.p = subprocess.Popen([VMM, '-m', mem, '-display', 'none', '-kernel', f'{GUESTS}/{guest}.bin', '-serial', 'file:' + self.console,
                                   '-qmp', f'unix:{sock},server,nowait', *args], stdin=subprocess.DEVNULL, stderr=self.err,
                                  preexec_fn=lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN))
        self.f = None
        self.sock = sock
        machines.append(self)

    def connect(self):
        if self.f:
            return
        s = socket.socket(socket.AF_UNIX)
        wait(lambda: self.p.poll() is not None or self.try_connect(s), 'the control socket')
        if self.p.poll() is not None:
            raise AssertionError('ended: ' + self.errors())
        s.settimeout(60)
        self.s, self.f = s, s.makefile('r')     # one file for both directions forgets, on a write, what it has read ahead
        self.f.readline()
        self.qmp('qmp_capabilities')

    def try_connect(self, s):
        try:
            s.connect(self.sock)
            return True
        except OSError:
            return False

    def qmp(self, command, **args):
        self.connect()
        self.s.sendall((json.dumps({'execute': command, 'arguments': args}) + '\n').encode())
        while True:
            line = self.f.readline()
            if not line:
                raise AssertionError('the control socket closed: ' + self.errors())
            answer = json.loads(line)
            if 'return' in answer:
                return answer['return']
            if 'error' in answer:
                raise AssertionError(f'{command}: {answer["error"]["desc"]}')

    def status(self):
        if self.p.poll() is not None:
            return 'ended'
        try:
            return self.qmp('query-status')['status']
        except (AssertionError, OSError):
            self.p.wait(10)
            return 'ended'

    def migrate(self, uri):
        self.qmp('migrate', uri=uri)

    def migrated(self):
        def over():
            self.info = self.qmp('query-migrate')
            return self.info['status'] in ('completed', 'failed', 'cancelled')
        try:
            wait(over, 'the end of the migration')
        except AssertionError as e:
            raise AssertionError(f'{e}: {self.info}')
        return self.info

    def counts(self):
        try:
            text = open(self.console).read()
        except FileNotFoundError:
            return []
        assert 'FAILED' not in text, text[text.index('FAILED'):][:200]
        return [int(l.split()[1]) for l in text.split('\n')[:-1] if l.startswith('count ')]

    def goes_on(self, n=3):
        """n more counts from now."""
        start = len(self.counts())
        wait(lambda: len(self.counts()) >= start + n or self.p.poll() is not None, 'counting')
        assert self.p.poll() is None, 'ended: ' + self.errors()

    def errors(self):
        self.err.flush()
        return open(self.log).read().strip()

    def ends(self, status=125):
        assert self.p.wait(60) == status, f'ended with {self.p.returncode}: {self.errors()}'
        return self.errors()

    def vmm(self):
        """The process number of the machine itself, beside its small parent (self.p)."""
        return machine_pid(self.p.pid)

    def kill(self):
        """kill -9 of the machine; the parent tells it and ends."""
        try:
            os.kill(self.vmm(), signal.SIGKILL)
        except ProcessLookupError:
            pass

    def quit(self):
        if self.p.poll() is None:
            self.kill()
        self.p.wait()


def machine_pid(parent):
    try:
        children = open(f'/proc/{parent}/task/{parent}/children').read().split()
    except OSError:
        children = []
    return int(children[0]) if children else parent


machines = []


def wait(what, name, seconds=60):
    if os.environ.get('LAB'):           # an emulated computer is slow
        seconds *= 4
    end = time.time() + seconds
    while not what():
        if time.time() > end:
            raise AssertionError(f'waited {seconds} s for {name}')
        time.sleep(0.005)


def whole(*parts):
    """The counts of all parts, in order, have no gap and no repetition (each part may go on after it was copied)."""
    for a, b in zip(parts, parts[1:]):
        assert b, 'nothing counted'
        assert b[0] <= a[-1] + 1, f'gap: {a[-1]} then {b[0]}'
    for p in parts:
        assert p == list(range(p[0], p[0] + len(p))), f'not in order: {p}'


def save(folder, name='saved', **kw):
    a = Machine(folder, 'a', **kw)
    a.goes_on()
    a.migrate(f'file:{folder}/{name}')
    info = a.migrated()
    assert info['status'] == 'completed', info
    return a


def sha(path):
    return hashlib.sha256(open(path, 'rb').read()).hexdigest()


def qcow2(path):
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', path, '64M'], check=True)
    return ['-drive', f'file={path},format=qcow2,if=virtio']


def human(m, line):
    return m.qmp('human-monitor-command', **{'command-line': line})


def image_is_clean(path):
    r = subprocess.run(['qemu-img', 'check', '-q', path], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout + r.stderr


# --- a line that is cut ---

class Cutter:
    """A line between two sockets that is cut after so many bytes one way, or after so many since an answer."""

    def __init__(self, path, to, forth=None, back=None, after_ready=None, before_end=None):
        # Behind READY there is one record of 20 bytes: the last word. What lies before it is the end of the state's record.
        if before_end is not None and before_end <= 20:
            after_ready = 20 - before_end
        self.hold = max(0, (before_end or 0) - 20)
        self.limits, self.after_ready, self.n = {'forth': forth, 'back': back}, after_ready, {'forth': 0, 'back': 0}
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(1)
        self.to, self.held = to, b''
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        self.a, _ = self.listener.accept()
        self.b = socket.socket(socket.AF_UNIX)
        self.b.connect(self.to)
        threading.Thread(target=self.pump, args=(self.a, self.b, 'forth'), daemon=True).start()
        self.pump(self.b, self.a, 'back')

    def cut(self):
        for s in (self.a, self.b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def pump(self, src, dst, way):
        try:
            while True:
                limit = self.limits[way]
                if way == 'forth' and self.after_ready is not None and self.n['back'] >= 16:
                    limit = self.ready + self.after_ready
                if limit is not None and self.n[way] >= limit:
                    break
                data = src.recv(65536 if limit is None else min(65536, limit - self.n[way]))
                if not data:
                    break
                if way == 'forth' and self.hold and self.n['back'] >= 8:
                    # Never the last bytes of what is there; when nothing follows, that was the end.
                    src.settimeout(0.5)
                    data, self.held = (self.held + data)[:-self.hold], (self.held + data)[-self.hold:]
                if way == 'forth' and self.after_ready is not None and self.n['back'] >= 16:
                    data = data[:max(0, self.ready + self.after_ready - self.n[way])]
                if way == 'back' and self.n[way] + len(data) >= 16 and self.n[way] < 16:
                    self.ready = self.n['forth']
                self.n[way] += len(data)
                dst.sendall(data)
        except OSError:
            pass
        self.cut()


def cut_once(d, i, disk=None, **limits):
    """Moves over a line that is cut; returns (source, destination) states and checks that one of them can run."""
    extra = ['-drive', f'file={disk},format=raw,if=virtio'] if disk else []
    b = Machine(d, f'b{i}', '-incoming', f'unix:{d}/to{i}', *extra)
    b.connect()
    a = Machine(d, f'a{i}', *extra)
    a.goes_on(1)
    if os.environ.get('LAB'):           # the line is as slow there as the guest is fast in dirtying its memory
        a.qmp('migrate-set-parameters', **{'downtime-limit': 10000})
    Cutter(f'{d}/from{i}', f'{d}/to{i}', **limits)
    a.migrate(f'unix:{d}/from{i}')
    info = a.migrated()
    wait(lambda: b.p.poll() is not None or b.status() == 'running', 'the destination to decide')
    run_a, run_b = a.status() == 'running', b.status() == 'running'
    assert not (run_a and run_b), f'both run: {limits} {info}'
    if not run_a and not run_b:
        # Without a disk the source cannot know: it stays, and the user decides.
        assert not disk and a.p.poll() is None, f'none runs: {limits} {info} {a.errors()} {b.errors()}'
    for m, runs in ((a, run_a), (b, run_b)):
        if runs:
            m.goes_on(1)
        m.counts()
    a.quit()
    b.quit()
    return run_a, run_b


def main(module):
    tests = [(n[5:], f) for n, f in module.items() if n.startswith('test_')]
    if len(sys.argv) > 1:
        tests = [t for t in tests if any(a in t[0] for a in sys.argv[1:])]
    failed = 0
    for i, (name, test) in enumerate(tests, 1):
        with tempfile.TemporaryDirectory(prefix='minivmm-move-') as d:
            try:
                if not os.access('/dev/kvm', os.W_OK):
                    raise Skip('no /dev/kvm here')
                test(d)
                print(f'ok {i} - {name}', flush=True)
            except Skip as e:
                print(f'ok {i} - {name} # SKIP {e}', flush=True)
            except Exception:
                failed += 1
                print(f'not ok {i} - {name}', flush=True)
                print('\n'.join('# ' + l for l in traceback.format_exc().strip().split('\n')), flush=True)
            for m in machines:
                m.quit()
            machines.clear()
    print(f'1..{len(tests)}')
    return failed != 0

