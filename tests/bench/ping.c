/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ping ADDRESS: sends an ICMP echo request each half millisecond and ends with 0 at the first
 * reply, with 1 after a minute without.
 */
#include <arpa/inet.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	struct icmphdr echo = { .type = ICMP_ECHO, .un.echo.id = htons(0x1234) };
	int s = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
	struct timespec step = { .tv_nsec = 500000 };
	double start = now();

	if (argc != 2 || !inet_aton(argv[1], &to.sin_addr) || s < 0) {
		fprintf(stderr, "usage: ping ADDRESS (as root)\n");
		return 2;
	}
	for (uint16_t n = 0; now() - start < 60; n++) {
		struct pollfd p = { .fd = s, .events = POLLIN };
		uint32_t sum;

		echo.un.echo.sequence = htons(n);
		echo.checksum = 0;
		/* the code is 0; a byte's order is the checksum's */
		sum = ICMP_ECHO + echo.un.echo.id + echo.un.echo.sequence;
		sum = (sum & 0xffff) + (sum >> 16);
		echo.checksum = (uint16_t)~(sum + (sum >> 16));
		/* No port of the bridge yet, or none that is up: the next one may get through. */
		sendto(s, &echo, sizeof(echo), 0, (struct sockaddr *)&to, sizeof(to));
		while (ppoll(&p, 1, &step, NULL) > 0) {
			uint8_t buf[256];
			ssize_t len = recv(s, buf, sizeof(buf), 0);
			struct icmphdr reply;

			if (len < 20 + (ssize_t)sizeof(reply))
				continue;
			memcpy(&reply, buf + (buf[0] & 15) * 4, sizeof(reply));
			if (reply.type == ICMP_ECHOREPLY && reply.un.echo.id == echo.un.echo.id)
				return 0;
		}
	}
	return 1;
}
