/* SPDX-License-Identifier: GPL-2.0-or-later */
/* checks_host.c: memory, network, disks and other hypervisors. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <liburing.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tools/doctor/doctor.h"

static bool have_capability(unsigned cap)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { 0 };

	return syscall(SYS_capget, &h, d) == 0 && (d[cap / 32].effective >> (cap % 32) & 1);
}

static uint64_t meminfo(const char *key)
{
	FILE *f = open_text("/proc/meminfo");
	char line[256];
	unsigned long value = 0;

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)) && line[strlen(key)] == ':')
			value = strtoul(line + strlen(key) + 1, NULL, 10);
	if (f)
		fclose(f);
	return value;
}

void check_memory(void)
{
	uint64_t available = meminfo("MemAvailable") / 1024;
	char thp[128];

	finding(available < 256 ? LIMIT : GOOD, "memory",
		available < 256 ? "close other programs" : NULL, "%lu MiB available to guests",
		available);
	read_line("/sys/kernel/mm/transparent_hugepage/enabled", thp, sizeof(thp));
	finding(GOOD, "huge pages", NULL, "transparent: %s; reserved: %lu", *thp ? thp : "no",
		meminfo("HugePages_Total"));
}

/* A default route on a bridge's own port steals the bridge's packets; so does an address there. */
static void check_ports(void)
{
	FILE *f = open_text("/proc/net/route");
	char line[256], dev[64], path[128];
	unsigned long dest;

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%63s %lx", dev, &dest) != 2)
			continue;
		snprintf(path, sizeof(path), "/sys/class/net/%.60s/brport", dev);
		if (access(at(path), F_OK) == 0) {
			char cure[160];

			snprintf(cure, sizeof(cure),
				 dest ? "sudo ip addr flush dev %s (and give the address to the "
					"bridge)"
				      : "sudo ip route del default dev %s",
				 dev);
			finding(LIMIT, "network", cure,
				"%s is a bridge's port but has %s of its own: answers to guests go "
				"astray",
				dev, dest ? "an address" : "the default route");
			break;
		}
	}
	if (f)
		fclose(f);
}

static unsigned count_bridges(char *names, size_t len)
{
	DIR *d = opendir(at("/sys/class/net"));
	struct dirent *e;
	unsigned n = 0;
	size_t used = 0;

	names[0] = 0;
	while (d && (e = readdir(d))) {
		char path[320];

		snprintf(path, sizeof(path), "/sys/class/net/%s/bridge", e->d_name);
		if (e->d_name[0] != '.' && access(at(path), F_OK) == 0) {
			used += snprintf(names + used, used < len ? len - used : 0, "%s%s",
					 n ? ", " : "", e->d_name);
			n++;
		}
	}
	if (d)
		closedir(d);
	return n;
}

void check_network(void)
{
	int tun = open(at("/dev/net/tun"), O_RDWR | O_CLOEXEC);
	char names[256], buf[16];
	bool admin = have_capability(CAP_NET_ADMIN);

	if (tun < 0)
		finding(LIMIT, "TUN/TAP", "sudo modprobe tun",
			"/dev/net/tun: %s: only -net user works", strerror(errno));
	else if (!admin)
		finding(LIMIT, "TUN/TAP",
			"run as root, or have root make a TAP: ip tuntap add tap0 mode tap user "
			"$USER",
			"no CAP_NET_ADMIN: -net tap,ifname=TAP with a TAP that is yours, or -net "
			"user");
	else
		finding(GOOD, "TUN/TAP", NULL, "may be made");
	if (tun >= 0)
		close(tun);
	if (count_bridges(names, sizeof(names)))
		finding(GOOD, "bridges", NULL, "%s", names);
	else
		finding(GOOD, "bridges",
			"sudo ip link add br0 type bridge; sudo ip link set br0 up", "none yet");
	if (!strcmp(read_line("/proc/sys/net/bridge/bridge-nf-call-iptables", buf, sizeof(buf)),
		    "1"))
		finding(LIMIT, "bridges", "sudo sysctl net.bridge.bridge-nf-call-iptables=0",
			"bridged frames go through iptables: its FORWARD policy may drop guests' "
			"packets");
	check_ports();
	finding(GOOD, "vhost-net", NULL, "%s",
		access(at("/dev/vhost-net"), R_OK | W_OK) == 0 ? "there"
							       : "not there (not needed)");
}

/* FICLONE of an empty file onto another tells whether the file system shares blocks. */
static bool can_reflink(void)
{
	char a[] = "./.minivmm-doctor-XXXXXX", b[] = "./.minivmm-doctor-XXXXXX";
	int fa = mkstemp(a), fb = fa < 0 ? -1 : mkstemp(b), ret = -1;

	if (fb >= 0 && write(fa, "x", 1) == 1)
		ret = ioctl(fb, FICLONE, fa);
	if (fa >= 0) {
		unlink(a);
		close(fa);
	}
	if (fb >= 0) {
		unlink(b);
		close(fb);
	}
	return ret == 0;
}

/* A disk or CD drive of the host that a guest might be given. */
static void check_device(const char *path, const char *what, const char *group)
{
	struct stat st;
	struct group *g;
	char cure[160];

	if (stat(at(path), &st) < 0 || access(at(path), R_OK) == 0)
		return;
	g = getgrgid(st.st_gid);
	snprintf(cure, sizeof(cure),
		 "sudo adduser $USER %s, then log in again; or run minivmm as root for it",
		 g && st.st_gid ? g->gr_name : group);
	finding(LIMIT, "disks", cure, "%s (%s) may not be read by you", path, what);
}

/* Partitioned disks: the first one that may not be read speaks for all. */
static void check_raw_disks(void)
{
	for (char c = 'a'; c <= 'z'; c++) {
		char path[16];
		struct stat st;

		snprintf(path, sizeof(path), "/dev/sd%c", c);
		if (stat(at(path), &st) < 0 || access(at(path), R_OK) == 0)
			continue;
		check_device(path, "a disk", "disk");
		return;
	}
}

static void check_io_uring(void)
{
	struct io_uring ring;
	char disabled[8];
	int ret;

	read_line("/proc/sys/kernel/io_uring_disabled", disabled, sizeof(disabled));
	ret = *disabled == '2' ? -EPERM : io_uring_queue_init(4, &ring, 0);
	if (ret == 0) {
		if (*disabled != '2')
			io_uring_queue_exit(&ring);
		finding(GOOD, "io_uring", NULL, "allowed");
	} else {
		finding(GOOD, "io_uring", "sudo sysctl kernel.io_uring_disabled=0",
			"refused (%s): disks use threads instead, a little slower", strerror(-ret));
	}
}

void check_disks(void)
{
	check_io_uring();
	finding(GOOD, "this folder", NULL, "%s",
		can_reflink() ? "reflinks: copies of images share blocks"
			      : "no reflinks: copies of images take room");
	check_raw_disks();
	check_device("/dev/cdrom", "CD drive", "cdrom");
}

void check_rivals(void)
{
	static const struct { const char *module, *name;
	} rivals[] = {
		{ "vboxdrv", "VirtualBox" },
		{ "vmmon", "VMware" },
		{ "prl_hypervisor", "Parallels" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rivals); i++) {
		char cure[96];

		if (!module_loaded(rivals[i].module))
			continue;
		snprintf(cure, sizeof(cure), "stop its guests, or: sudo modprobe -r %s",
			 rivals[i].module);
		finding(LIMIT, "rivals", cure, "%s is loaded: while its guests run, KVM's may not",
			rivals[i].name);
	}
}
