/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VGA programmed in every wrong order, its picture drawn after each burst. */
#include <stdlib.h>

#include "devices/chips.h"
#include "devices/vga/vga.h"
#include "tests/fuzz/ops.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void changed(void *ctx, const struct screen_rect *r)
{
	const struct surface *s = vga_display_ops.surface(ctx);

	if (!r->w || !r->h || r->x + r->w > s->width || r->y + r->h > s->height)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct fuzz_range ports[] = {
		{ 0x3b0, 0x30 }, { 0x1ce, 4 }, { 0x3c0, 0x10 }, { 0x1ce, 3 }
	};
	static const struct fuzz_range mem[] = { { 0xa0000, 0x20000 }, { 0xe1000000, 0x1000 } };
	static struct pci_wires w;
	static struct device *d;
	static struct text_screen t;
	unsigned width, height;
	struct screen *s;
	struct vga *v;

	if (!d) {
		struct vga_opts o = { .devfn = PCI_DEVFN(2, 0), .rom_fd = -1 };
		struct err err = { "" };
		struct pci_bus *pci;

		w = (struct pci_wires){ .pio = bus_new("pio", 0xffff),
					.mmio = bus_new("mmio", UINT64_MAX),
					.mem = mem_new(NULL, NULL),
					.loop = loop_new("fuzz") };
		pci = pci_bus_new(&w);
		d = vga_new(pci, &o, &err);
		if (!d)
			abort();
		pci_bus_config_write(pci, o.devfn, PCI_BASE_ADDRESS_0, 4, 0xe0000000);
		pci_bus_config_write(pci, o.devfn, PCI_BASE_ADDRESS_0 + 8, 4, 0xe1000000);
		pci_bus_config_write(pci, o.devfn, PCI_COMMAND, 2, 3);
	}
	v = container_of(d, struct vga, pci.dev);
	s = screen_open(vga_display(d));
	/* The first byte sets a mode that text or graphics may start from. */
	bus_write(w.pio, 0x3c2, 1, 0x67);
	bus_write(w.pio, 0x3c0, 1, 0x20);
	for (size_t at = 0; at < size; at += 64) {
		fuzz_ops(w.pio, ports, ARRAY_SIZE(ports), w.mmio, mem, ARRAY_SIZE(mem), data + at,
			 MIN(size - at, 64));
		vga_display_ops.update(s, changed, s);
		vga_display_ops.text(v, &t, &width, &height);
	}
	vga_display_ops.close(s);
	d->ops->reset(d);
	return 0;
}
