/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mac.c: Ethernet addresses. A default one comes from the VM's name, so that it stays the same from
 * boot to boot; a second VM of the same name on the same network must not get it. What is taken is
 * known by names of abstract Unix sockets: they cover every user of this network namespace, and
 * vanish with the process, however it ends.
 */
#include <errno.h>
#include <stdio.h>

#include "net/net.h"
#include "vmm/base/log.h"

#define TRIES 64

/* FNV-1a, 64 bits. */
static uint64_t hash(uint64_t h, const void *buf, size_t len)
{
	const uint8_t *p = buf;

	while (len--)
		h = (h ^ *p++) * 0x100000001b3ull;
	return h;
}

/*
 * True when nobody else has the address; the socket stays open on purpose until the process ends.
 */
static bool mac_reserve(const uint8_t mac[6])
{
	char name[64];

	snprintf(name, sizeof(name), "minivmm-mac-%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1],
		 mac[2], mac[3], mac[4], mac[5]);
	/* Another failure (no descriptors left) is for others to report. */
	return host_reserve(&host_door, name) != -EADDRINUSE;
}

void net_default_mac(const char *vm_name, unsigned index, bool moves, uint8_t mac[6])
{
	uint64_t h = hash(0xcbf29ce484222325ull, vm_name ? vm_name : "",
			  vm_name ? strlen(vm_name) : 0);
	uint8_t salt[8];

	for (unsigned attempt = 0; attempt < TRIES; attempt++) {
		uint64_t v;

		st_le32(salt, index);
		st_le32(salt + 4, attempt);
		v = hash(h, salt, sizeof(salt));
		v ^= v >> 32;
		memcpy(mac, (uint8_t[]){ 0x52, 0x54, 0x00, v >> 16, v >> 8, v }, 6);
		if (mac_reserve(mac) || moves)
			return;
	}
	log_warn("no free default MAC address found for NIC %u in %u tries; give one with macaddr=",
		 index, TRIES);
}

int net_parse_mac(const char *s, uint8_t mac[6], struct err *err)
{
	unsigned b[6];
	char sep[6], end;

	if (sscanf(s, "%2x%c%2x%c%2x%c%2x%c%2x%c%2x%c", &b[0], &sep[0], &b[1], &sep[1], &b[2],
		   &sep[2], &b[3], &sep[3], &b[4], &sep[4], &b[5], &end) != 11)
		return err_set(err, EINVAL, "six hexadecimal bytes expected, as 52:54:00:12:34:56");
	for (int i = 0; i < 5; i++)
		if (sep[i] != sep[0] || (sep[i] != ':' && sep[i] != '-'))
			return err_set(err, EINVAL,
				       "six hexadecimal bytes expected, as 52:54:00:12:34:56");
	if (b[0] & 1)
		return err_set(err, EINVAL,
			       "that is a group address; the first byte must be even");
	if (!(b[0] | b[1] | b[2] | b[3] | b[4] | b[5]))
		return err_set(err, EINVAL, "an address of zeros is nobody's");
	for (int i = 0; i < 6; i++)
		mac[i] = b[i];
	return 0;
}
