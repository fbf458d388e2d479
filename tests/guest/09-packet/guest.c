/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lesson 09: a packet. The guest asks by ARP who has 10.0.2.2, and sends it a ping (RFC 826, RFC
 * 792). Virtual I/O Device specification 1.2, section 5.1.
 */
#include "virtio.h"

#define NET_F_MAC (1 << 5)
#define VECTOR 0x30
#define RX 0
#define TX 1
#define HDR 12				/* struct virtio_net_hdr of virtio 1.x */
#define ETHERTYPE_ARP 0x0608		/* as they lie in memory: big-endian */
#define ETHERTYPE_IP 0x0008
#define SWAP16(x) ((uint16_t)((x) << 8 | (x) >> 8))

struct __attribute__((packed)) ethernet { uint8_t to[6], from[6]; uint16_t type; };
struct __attribute__((packed)) arp {
	struct ethernet e;
	uint16_t hardware, protocol;
	uint8_t hlen, plen;
	uint16_t op;
	uint8_t from_mac[6], from_ip[4], to_mac[6], to_ip[4];
};
struct __attribute__((packed)) ping {
	struct ethernet e;
	uint8_t version_ihl, tos;
	uint16_t length, id, fragment;
	uint8_t ttl, protocol;
	uint16_t checksum;
	uint8_t from[4], to[4];
	uint8_t type, code;
	uint16_t icmp_checksum, ident, sequence;
	char text[20];
};

static struct virtio nic;
static struct queue rx, tx;
static volatile uint32_t called;
static uint8_t rx_buffers[QUEUE_SIZE][2048], tx_buffer[256];
static uint8_t mac[6], gateway_mac[6];
static const uint8_t my_ip[4] = { 10, 0, 2, 15 }, gateway[4] = { 10, 0, 2, 2 };

static void interrupt(void) { called = 1; }

static void transmit(const void *frame, uint32_t len)
{
	uint32_t head, n;

	memset(tx_buffer, 0, HDR);
	memcpy(tx_buffer + HDR, frame, len);
	tx.desc[0] = (struct desc){ (uintptr_t)tx_buffer, HDR + len, 0, 0 };
	queue_offer(&tx, 0);
	if (!queue_wait(&tx, &called, 300, &head, &n))
		fail("the packet was not sent");
}

/* The next frame of this EtherType; what else comes goes back to the device. */
static void *receive(uint16_t type)
{
	uint32_t head, len;

	while (queue_wait(&rx, &called, 300, &head, &len)) {
		struct ethernet *e = (struct ethernet *)(rx_buffers[head] + HDR);

		CHECK(len >= HDR + sizeof(*e) && len <= sizeof(rx_buffers[0]));
		if (e->type == type && !memcmp(e->to, mac, 6))
			return e;
		queue_offer(&rx, (uint16_t)head);
	}
	return NULL;
}

static uint16_t checksum(const void *data, unsigned len)
{
	const uint8_t *p = data;
	uint32_t sum = 0;

	for (unsigned i = 0; i + 1 < len; i += 2)
		sum += (uint32_t)p[i] | (uint32_t)p[i + 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void find_gateway(void)
{
	struct arp q = { .hardware = SWAP16(1),
			 .protocol = ETHERTYPE_IP,
			 .hlen = 6,
			 .plen = 4,
			 .op = SWAP16(1) },
		   *a;

	memset(q.e.to, 0xff, 6);
	memcpy(q.e.from, mac, 6);
	q.e.type = ETHERTYPE_ARP;
	memcpy(q.from_mac, mac, 6);
	memcpy(q.from_ip, my_ip, 4);
	memcpy(q.to_ip, gateway, 4);
	transmit(&q, sizeof(q));
	a = receive(ETHERTYPE_ARP);
	if (!a)
		fail("nobody answered the ARP request");
	CHECK(a->op == SWAP16(2) && !memcmp(a->from_ip, gateway, 4));
	memcpy(gateway_mac, a->from_mac, 6);
	print("09: 10.0.2.2 is at %02x:%02x:%02x:%02x:%02x:%02x\n", gateway_mac[0], gateway_mac[1],
	      gateway_mac[2], gateway_mac[3], gateway_mac[4], gateway_mac[5]);
}

static void ping_gateway(void)
{
	struct ping p = { .version_ihl = 0x45,
			  .ttl = 64,
			  .protocol = 1,
			  .type = 8,
			  .ident = 0x1234,
			  .sequence = SWAP16(1),
			  .text = "hello from lesson 09" },
		    *a;

	memcpy(p.e.to, gateway_mac, 6);
	memcpy(p.e.from, mac, 6);
	p.e.type = ETHERTYPE_IP;
	p.length = SWAP16(sizeof(p) - sizeof(p.e));
	memcpy(p.from, my_ip, 4);
	memcpy(p.to, gateway, 4);
	p.checksum = checksum(&p.version_ihl, 20);
	p.icmp_checksum = checksum(&p.type, sizeof(p) - sizeof(p.e) - 20);
	transmit(&p, sizeof(p));
	a = receive(ETHERTYPE_IP);
	if (!a)
		fail("no answer to the ping");
	CHECK(a->type == 0 && a->ident == p.ident && !memcmp(a->text, p.text, sizeof(p.text)));
	CHECK(checksum(&a->type, sizeof(p) - sizeof(p.e) - 20) == 0);
	print("09: 10.0.2.2 answered the ping with the same text\n");
}

int main(void)
{
	irq_handler(VECTOR, interrupt);
	irq_enable();
	virtio_find(&nic, 0x1000, 0x1041);
	CHECK(virtio_begin(&nic, NET_F_MAC) & NET_F_MAC);
	virtio_queue(&nic, &rx, RX, VECTOR);
	virtio_queue(&nic, &tx, TX, VECTOR);
	virtio_ready(&nic);
	for (unsigned i = 0; i < 6; i++)
		mac[i] = MMIO8(nic.device + i);
	CHECK(!(mac[0] & 1));
	for (uint16_t i = 0; i < QUEUE_SIZE; i++) {
		rx.desc[i] = (struct desc){ (uintptr_t)rx_buffers[i], sizeof(rx_buffers[i]),
					    DESC_F_WRITE, 0 };
		queue_offer(&rx, i);
	}
	find_gateway();
	ping_gateway();
	finish(0x18);
}
