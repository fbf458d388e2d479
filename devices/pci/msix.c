/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * msix.c: MSI-X (PCI Local Bus 3.0, 6.8.2): the capability, and one memory BAR with the vector
 * table and the pending bit array. Each table entry is a message vector of irq.c, which sends or
 * remembers.
 *
 * Table and pending bits answer under the main loop's lock, as configuration space does, because
 * the function mask and enable bits there change every entry. pci_msix_vec() and the vectors may be
 * used from any thread.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "devices/pci/msix.h"

struct msix {
	struct pci_dev *p;
	uint8_t cap;			/* offset of the capability */
	unsigned n;
	uint32_t pba;			/* offset of the pending bits in the BAR */
	bool enabled, masked;		/* as last seen in the control word */
	void (*on_enable)(struct pci_dev *p, bool on);
	struct vec **vecs;
	uint8_t *table;			/* n entries of PCI_MSIX_ENTRY_SIZE */
};

static bool entry_masked(const struct msix *m, unsigned i)
{
	return ld_le32(m->table + i * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_VECTOR_CTRL) &
	       PCI_MSIX_ENTRY_CTRL_MASKBIT;
}

static void entry_apply(struct msix *m, unsigned i)
{
	const uint8_t *e = m->table + i * PCI_MSIX_ENTRY_SIZE;

	vec_set(m->vecs[i], ld_le64(e + PCI_MSIX_ENTRY_LOWER_ADDR),
		ld_le32(e + PCI_MSIX_ENTRY_DATA), !m->enabled || m->masked || entry_masked(m, i));
}

static uint32_t pending_dword(struct msix *m, unsigned dword)
{
	uint32_t bits = 0;

	for (unsigned i = dword * 32; i < m->n && i < dword * 32 + 32; i++)
		bits |= (uint32_t)vec_pending(m->vecs[i]) << (i & 31);
	return bits;
}

static uint32_t bar_dword(struct msix *m, uint64_t off)
{
	if (off < (uint64_t)m->n * PCI_MSIX_ENTRY_SIZE)
		return ld_le32(m->table + off);
	if (off >= m->pba && off - m->pba < ALIGN_UP(m->n, 64u) / 8)
		return pending_dword(m, (unsigned)(off - m->pba) / 4);
	return 0;
}

static uint64_t msix_read(void *dev, uint64_t off, unsigned size)
{
	struct msix *m = dev;
	uint64_t val = bar_dword(m, ALIGN_DOWN(off, 4));

	if (size == 8)
		return val | (uint64_t)bar_dword(m, off + 4) << 32;
	return val;
}

static void dword_write(struct msix *m, uint64_t off, uint32_t val)
{
	if (off >= (uint64_t)m->n * PCI_MSIX_ENTRY_SIZE)
		return;		/* the pending bits are read-only */
	if (off % PCI_MSIX_ENTRY_SIZE == PCI_MSIX_ENTRY_VECTOR_CTRL)
		val &= PCI_MSIX_ENTRY_CTRL_MASKBIT;
	else if (off % PCI_MSIX_ENTRY_SIZE == PCI_MSIX_ENTRY_LOWER_ADDR)
		val &= ~3u;
	if (ld_le32(m->table + off) == val)
		return;
	st_le32(m->table + off, val);
	/*
	 * Software writes address and data of an entry while it is masked and unmasks it last;
	 * routes are worth changing only then. An entry changed while unmasked takes effect at
	 * once, half-written or not.
	 */
	entry_apply(m, (unsigned)(off / PCI_MSIX_ENTRY_SIZE));
}

static void msix_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct msix *m = dev;

	dword_write(m, off, (uint32_t)val);
	if (size == 8)
		dword_write(m, off + 4, (uint32_t)(val >> 32));
}

/* PCI 3.0, 6.8.2: four dwords an entry; the pending bits lie behind the table. */
static const char *msix_name(void *dev, uint64_t off, bool is_write)
{
	static const char *const words[] = { "message address", "message high", "message data",
					     "vector control" };
	struct msix *m = dev;

	return off < m->n * 16ull ? words[off / 4 % 4] : "pending bits";
}

static const struct region_ops msix_ops = {
	.name = "msi-x",
	.read = msix_read,
	.write = msix_write,
	.min_width = 4,
	.max_width = 8,
	.reg_name = msix_name,
};

int pci_msix_init(struct pci_dev *p, int bar, unsigned n)
{
	struct msix *m;
	uint64_t size = 4 * KiB;

	if (n == 0 || n > PCI_MSIX_FLAGS_QSIZE + 1 || bar < 0 || bar >= PCI_BARS || p->msix)
		return -EINVAL;
	m = xcalloc(1, sizeof(*m));
	m->p = p;
	m->n = n;
	m->pba = n <= 2 * KiB / PCI_MSIX_ENTRY_SIZE
			 ? 2 * KiB
			 : (uint32_t)ALIGN_UP(n * PCI_MSIX_ENTRY_SIZE, 4 * KiB);
	while (size < m->pba + ALIGN_UP(n, 64u) / 8)
		size *= 2;
	m->table = xcalloc(n, PCI_MSIX_ENTRY_SIZE);
	m->vecs = xcalloc(n, sizeof(struct vec *));
	for (unsigned i = 0; i < n; i++)
		m->vecs[i] = vec_new(pci_bus_wires(p->bus)->irqs);
	m->cap = pci_cap_add(p, PCI_CAP_ID_MSIX, PCI_CAP_MSIX_SIZEOF);
	st_le16(p->config + m->cap + PCI_MSIX_FLAGS, (uint16_t)(n - 1));
	st_le16(p->wmask + m->cap + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	st_le32(p->config + m->cap + PCI_MSIX_TABLE, (uint32_t)bar);
	st_le32(p->config + m->cap + PCI_MSIX_PBA, m->pba | (uint32_t)bar);
	pci_bar_regs(p, bar, PCI_BASE_ADDRESS_SPACE_MEMORY, size, &msix_ops, m);
	p->bars[bar].loop = pci_bus_wires(p->bus)->loop;
	p->msix = m;
	msix_reset(p);
	return 0;
}

bool pci_msix_enabled(const struct pci_dev *p)
{
	return p->msix &&
	       (ld_le16(p->config + p->msix->cap + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_ENABLE);
}

struct vec *pci_msix_vec(struct pci_dev *p, unsigned n)
{
	return p->msix && n < p->msix->n ? p->msix->vecs[n] : NULL;
}

void pci_msix_on_enable(struct pci_dev *p, void (*fn)(struct pci_dev *p, bool on))
{
	assert(p->msix);
	p->msix->on_enable = fn;
}

void msix_config_written(struct pci_dev *p)
{
	struct msix *m = p->msix;
	uint16_t flags = ld_le16(p->config + m->cap + PCI_MSIX_FLAGS);
	bool enabled = flags & PCI_MSIX_FLAGS_ENABLE, masked = flags & PCI_MSIX_FLAGS_MASKALL;
	bool toggled = enabled != m->enabled;

	if (!toggled && masked == m->masked)
		return;
	m->enabled = enabled;
	m->masked = masked;
	for (unsigned i = 0; i < m->n; i++)
		entry_apply(m, i);
	if (toggled && m->on_enable)
		m->on_enable(p, enabled);
}

void msix_reset(struct pci_dev *p)
{
	struct msix *m = p->msix;

	memset(m->table, 0, m->n * PCI_MSIX_ENTRY_SIZE);
	for (unsigned i = 0; i < m->n; i++) {
		m->table[i * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_VECTOR_CTRL] =
			PCI_MSIX_ENTRY_CTRL_MASKBIT;
		entry_apply(m, i);
		vec_set_pending(m->vecs[i], false);
	}
	msix_config_written(p);
}

void msix_free(struct pci_dev *p)
{
	struct msix *m = p->msix;

	if (!m)
		return;
	for (unsigned i = 0; i < m->n; i++)
		vec_free(m->vecs[i]);
	free(m->vecs);
	free(m->table);
	free(m);
	p->msix = NULL;
}

void msix_save(struct pci_dev *p, struct state_out *o)
{
	struct msix *m = p->msix;
	size_t dwords = ALIGN_UP(m->n, 64u) / 32;
	uint8_t pba[(PCI_MSIX_FLAGS_QSIZE + 1) / 8];

	for (size_t i = 0; i < dwords; i++)
		st_le32(pba + 4 * i, pending_dword(m, (unsigned)i));
	state_bytes(o, "msix-table", m->table, m->n * PCI_MSIX_ENTRY_SIZE);
	state_bytes(o, "msix-pba", pba, 4 * dwords);
}

int msix_load(struct pci_dev *p, struct state_in *in)
{
	struct msix *m = p->msix;
	uint8_t pba[(PCI_MSIX_FLAGS_QSIZE + 1) / 8];
	uint16_t flags = ld_le16(p->config + m->cap + PCI_MSIX_FLAGS);
	int ret;

	state_get_bytes(in, "msix-table", m->table, m->n * PCI_MSIX_ENTRY_SIZE);
	state_get_bytes(in, "msix-pba", pba, ALIGN_UP(m->n, 64u) / 8);
	ret = state_in_error(in);
	if (ret < 0) {
		msix_reset(p);
		return ret;
	}
	/*
	 * Masked until the pending bits are in place, so that a bit saved as pending is sent by the
	 * unmasking alone.
	 */
	m->enabled = false;
	for (unsigned i = 0; i < m->n; i++) {
		entry_apply(m, i);
		vec_set_pending(m->vecs[i], pba[i / 8] >> (i & 7) & 1);
	}
	m->enabled = flags & PCI_MSIX_FLAGS_ENABLE;
	m->masked = flags & PCI_MSIX_FLAGS_MASKALL;
	for (unsigned i = 0; i < m->n; i++)
		entry_apply(m, i);
	if (m->on_enable)
		m->on_enable(p, m->enabled);
	return 0;
}
