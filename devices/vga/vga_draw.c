/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vga_draw.c: from registers and video memory to a picture, for whoever watches (display.h).
 *
 * An update takes the loop's lock for a moment, copies what decides about the picture into a struct
 * view, and collects the dirty pages; then it draws without the lock. A line is drawn into a buffer
 * first and compared with the surface, so that only what looks different is reported, however much
 * was written. Every address is reduced to VRAM before use: registers hold what the guest likes.
 */
#include <stdlib.h>

#include "devices/vga/vga.h"

enum view_kind { VIEW_BLANK, VIEW_TEXT, VIEW_PLANAR, VIEW_CGA, VIEW_PACKED, VIEW_VBE };

struct view {
	enum view_kind kind;
	unsigned width, height;		/* in pixels, as shown */
	unsigned bpp;			/* VIEW_VBE */
	uint32_t start, line;		/* bytes of interleaved VRAM */
	unsigned line_compare;
	/* lines of a character row: each is shown from the same memory */
	unsigned scans;
	unsigned doubled;		/* every line is shown twice */
	bool wide;			/* every pixel is shown twice side by side */
	uint8_t crtc_mode, plane_enable;
	uint32_t palette[256];		/* colours of the DAC */
	uint32_t pal16[16];		/* behind the attribute controller */
	/* text */
	unsigned cols, rows, cell_w, cell_h;
	unsigned cursor_from, cursor_to;
	int cursor;			/* cell, or -1 */
	uint32_t font[2];		/* offsets of plane 2's byte in VRAM */
	uint32_t font_writes;
	bool blink_is_bright, line_graphics;
};

struct screen {
	struct vga *v;
	struct dirty_client *dirty;
	unsigned long *bits;		/* pages of VRAM */
	struct view view;
	struct surface surface;
	uint32_t *line;			/* one line while it is drawn */
	uint16_t *cells, *shown;	/* text now, and as drawn */
	int cursor_shown;
	bool whole;			/* draw everything */
};

/* --- what the registers say --- */
static uint32_t dac_colour(const struct vga *v, unsigned n)
{
	const uint8_t *p = v->palette + 3 * n;

	if (v->vbe[VBE_ENABLE] & VBE_8BIT_DAC)
		return p[0] << 16 | p[1] << 8 | p[2];
	/* 6 bits to 8: the upper two again below. */
	return (p[0] << 2 | p[0] >> 4) << 16 | (p[1] << 2 | p[1] >> 4) << 8 |
	       (p[2] << 2 | p[2] >> 4);
}

static void view_palettes(const struct vga *v, struct view *w)
{
	unsigned i, n;

	for (i = 0; i < 256; i++)
		w->palette[i] = dac_colour(v, i & v->dac_mask);
	for (i = 0; i < 16; i++) {
		n = v->attr[i];
		if (v->attr[ATTR_MODE] & 0x80)
			n = (v->attr[ATTR_COLOR_PAGE] & 0xf) << 4 | (n & 0xf);
		else
			n = (v->attr[ATTR_COLOR_PAGE] & 0xc) << 4 | (n & 0x3f);
		w->pal16[i] = w->palette[n];
	}
}

static unsigned crtc_height(const struct vga *v)
{
	return (v->crtc[CRTC_VDISP] | (v->crtc[CRTC_OVERFLOW] & 0x02) << 7 |
		(v->crtc[CRTC_OVERFLOW] & 0x40) << 3) +
	       1;
}

static void view_text(const struct vga *v, struct view *w)
{
	static const uint16_t banks[8] = { 0, 16, 32, 48, 8, 24, 40, 56 };	/* KiB in plane 2 */
	unsigned map = v->seq[SEQ_CHAR_MAP],
		 start = v->crtc[CRTC_START_HIGH] << 8 | v->crtc[CRTC_START_LOW];
	int cursor = (v->crtc[CRTC_CURSOR_HIGH] << 8 | v->crtc[CRTC_CURSOR_LOW]);

	w->kind = VIEW_TEXT;
	w->cell_w = v->seq[SEQ_CLOCKING] & 1 ? 8 : 9;
	if (v->seq[SEQ_CLOCKING] & 8)
		w->wide = true;
	w->cell_h = (v->crtc[CRTC_MAX_SCAN] & 0x1f) + 1;
	w->cols = MIN(v->crtc[CRTC_HDISP] + 1u, (unsigned)TEXT_MAX_COLS);
	w->rows = MIN(crtc_height(v) / w->cell_h, (unsigned)TEXT_MAX_ROWS);
	w->width = w->cols * w->cell_w * (w->wide ? 2 : 1);
	w->height = w->rows * w->cell_h;
	w->start = start;
	w->line = v->crtc[CRTC_OFFSET] * 2;		/* cells */
	w->cursor = v->crtc[CRTC_CURSOR_START] & 0x20 ? -1 : cursor;
	w->cursor_from = v->crtc[CRTC_CURSOR_START] & 0x1f;
	w->cursor_to = v->crtc[CRTC_CURSOR_END] & 0x1f;
	/* attribute bit 3 clear: map B */
	w->font[0] = banks[(map >> 4 & 1) << 2 | (map & 3)] * KiB * 4 + 2;
	w->font[1] = banks[(map >> 5 & 1) << 2 | (map >> 2 & 3)] * KiB * 4 + 2;
	w->font_writes = v->font_writes;
	w->blink_is_bright = !(v->attr[ATTR_MODE] & 8);
	w->line_graphics = v->attr[ATTR_MODE] & 4;
}

static void view_graphics(const struct vga *v, struct view *w)
{
	unsigned shift = v->gc[GC_MODE] >> 5 & 3;

	w->width = (v->crtc[CRTC_HDISP] + 1) * 8;
	w->height = crtc_height(v);
	w->line = v->crtc[CRTC_OFFSET] * 8;
	w->start = (v->crtc[CRTC_START_HIGH] << 8 | v->crtc[CRTC_START_LOW]) * 4;
	w->line_compare = v->crtc[CRTC_LINE_COMPARE] | (v->crtc[CRTC_OVERFLOW] & 0x10) << 4 |
			  (v->crtc[CRTC_MAX_SCAN] & 0x40) << 3;
	w->scans = (v->crtc[CRTC_MAX_SCAN] & 0x1f) + 1;
	w->doubled = v->crtc[CRTC_MAX_SCAN] >> 7;
	w->crtc_mode = v->crtc[CRTC_MODE];
	w->plane_enable = v->attr[ATTR_PLANE_ENABLE] & 0xf;
	if (shift >= 2) {
		w->kind = VIEW_PACKED;
		w->wide = true;
		return;
	}
	w->kind = shift ? VIEW_CGA : VIEW_PLANAR;
	if (v->seq[SEQ_CLOCKING] & 8) {
		w->wide = true;
		w->width *= 2;
	}
}

static void view_vbe(const struct vga *v, struct view *w)
{
	w->bpp = v->vbe[VBE_BPP];
	w->width = v->vbe[VBE_XRES];
	w->height = v->vbe[VBE_YRES];
	w->line = vbe_line_bytes(v);
	w->start = vbe_start(v);
	w->scans = 1;
	w->line_compare = UINT32_MAX;
	w->kind = w->bpp == 4 ? VIEW_PLANAR : VIEW_VBE;
	w->crtc_mode = 3;
	w->plane_enable = 0xf;
}

static void view_get(const struct vga *v, struct view *w)
{
	memset(w, 0, sizeof(*w));
	w->cursor = -1;
	view_palettes(v, w);
	if (v->vbe[VBE_ENABLE] & VBE_ENABLED) {
		view_vbe(v, w);
		return;
	}
	if (v->gc[GC_MISC] & GC_MISC_GRAPHICS)
		view_graphics(v, w);
	else
		view_text(v, w);
	/*
	 * Index bit 5 clear, or the sequencer's screen-off bit: nothing is shown; a card nobody has
	 * set up yet has no size.
	 */
	if (!(v->attr_index & 0x20) || (v->seq[SEQ_CLOCKING] & 0x20) || w->width < 16 ||
	    w->height < 16) {
		w->kind = VIEW_BLANK;
		if (w->width < 16 || w->height < 16) {
			w->width = 640;
			w->height = 400;
		}
	}
}

/* --- lines --- */
static const uint8_t *vram_at(const struct vga *v, uint32_t off)
{
	return v->vram_host + (off & (v->vram_size - 1));
}

static void put(uint32_t **to, uint32_t colour, bool wide)
{
	*(*to)++ = colour;
	if (wide)
		*(*to)++ = colour;
}

static void line_planar(const struct vga *v, const struct view *w, uint32_t addr, uint32_t *to)
{
	unsigned n = w->width / (w->wide ? 16 : 8);

	for (; n--; addr += 4) {
		const uint8_t *p = vram_at(v, addr & ~3u);

		for (int bit = 7; bit >= 0; bit--) {
			unsigned c = (p[0] >> bit & 1) | (p[1] >> bit & 1) << 1 |
				     (p[2] >> bit & 1) << 2 | (p[3] >> bit & 1) << 3;

			put(&to, w->pal16[c & w->plane_enable], w->wide);
		}
	}
}

/* Two bits a pixel from a pair of planes: even bytes in plane 0, odd ones in plane 1. */
static void line_cga(const struct vga *v, const struct view *w, uint32_t addr, uint32_t *to)
{
	unsigned n = w->width / (w->wide ? 16 : 8);

	for (; n--; addr += 4) {
		const uint8_t *p = vram_at(v, addr & ~3u);

		for (int half = 0; half < 2; half++)
			for (int bit = 6; bit >= 0; bit -= 2)
				put(&to,
				    w->pal16[((p[half] >> bit & 3) | (p[half + 2] >> bit & 3)
									     << 2) &
					     w->plane_enable],
				    w->wide);
	}
}

static void line_packed(const struct vga *v, const struct view *w, uint32_t addr, uint32_t *to)
{
	unsigned n;

	for (n = 0; n < w->width / 2; n++)
		put(&to, w->palette[*vram_at(v, addr + n)], true);
}

static uint32_t expand5(unsigned c)
{
	return c << 3 | c >> 2;
}

static void line_vbe(const struct vga *v, const struct view *w, uint32_t addr, uint32_t *to)
{
	const uint8_t *p = v->vram_host + addr;
	unsigned n = w->width, bytes = (w->bpp + 7) / 8, c;

	/*
	 * vbe_fix keeps the picture inside; a load of a saved machine may race with nothing, but
	 * check all the same.
	 */
	if (!range_ok(addr, (uint64_t)n * bytes, v->vram_size)) {
		memset(to, 0, n * 4);
		return;
	}
	switch (w->bpp) {
	case 8:
		while (n--)
			*to++ = w->palette[*p++];
		break;
	case 15:
		for (; n--; p += 2) {
			c = ld_le16(p);
			*to++ = expand5(c >> 10 & 31) << 16 | expand5(c >> 5 & 31) << 8 |
				expand5(c & 31);
		}
		break;
	case 16:
		for (; n--; p += 2) {
			c = ld_le16(p);
			*to++ = expand5(c >> 11) << 16 | ((c >> 5 & 63) << 2 | (c >> 9 & 3)) << 8 |
				expand5(c & 31);
		}
		break;
	case 24:
		for (; n--; p += 3)
			*to++ = p[2] << 16 | p[1] << 8 | p[0];
		break;
	default:
		for (; n--; p += 4)
			*to++ = ld_le32(p) & 0xffffff;
		break;
	}
}

/* --- reporting --- */
struct report {
	void (*changed)(void *ctx, const struct screen_rect *r);
	void *ctx;
	struct screen_rect r;		/* grows line by line; h == 0: empty */
};

static void report_flush(struct report *p)
{
	if (p->r.h)
		p->changed(p->ctx, &p->r);
	p->r.h = 0;
}

static void report_line(struct report *p, unsigned y, unsigned from, unsigned to)
{
	if (p->r.h && p->r.y + p->r.h != y)
		report_flush(p);
	if (!p->r.h) {
		p->r = (struct screen_rect){ from, y, to - from, 1 };
		return;
	}
	to = MAX(to, p->r.x + p->r.w);
	p->r.x = MIN(p->r.x, from);
	p->r.w = to - p->r.x;
	p->r.h++;
}

/* The drawn line goes to the surface; what differs is reported. */
static void line_show(struct screen *s, unsigned y, struct report *p)
{
	unsigned width = s->surface.width, from = 0, to = width;
	uint32_t *old = s->surface.pixels + (size_t)y * width;

	if (!memcmp(old, s->line, width * 4ul))
		return;
	while (old[from] == s->line[from])
		from++;
	while (old[to - 1] == s->line[to - 1])
		to--;
	memcpy(old + from, s->line + from, (to - from) * 4ul);
	report_line(p, y, from, to);
}

/* --- graphics --- */
static bool pages_dirty(const struct screen *s, uint32_t addr, uint32_t len)
{
	uint32_t mask = s->v->vram_size - 1, page = (addr & mask) >> 12,
		 last = ((addr + len) & mask) >> 12, pages = (mask >> 12) + 1;

	for (;; page = (page + 1) % pages) {
		if (s->bits[page / (8 * sizeof(long))] >> page % (8 * sizeof(long)) & 1)
			return true;
		if (page == last)
			return false;
	}
}

static uint32_t line_len(const struct view *w)
{
	unsigned pixels = w->wide ? w->width / 2 : w->width;

	switch (w->kind) {
	case VIEW_VBE:
		return pixels * ((w->bpp + 7) / 8);
	case VIEW_PLANAR:
	case VIEW_CGA:
		return pixels / 2;
	default:
		return pixels;
	}
}

static void draw_graphics(struct screen *s, struct report *p)
{
	static void (*const draw[])(const struct vga *, const struct view *, uint32_t,
				    uint32_t *) = {
		[VIEW_PLANAR] = line_planar,
		[VIEW_CGA] = line_cga,
		[VIEW_PACKED] = line_packed,
		[VIEW_VBE] = line_vbe,
	};
	const struct view *w = &s->view;
	uint32_t start = w->start, at, last_at = 0, len = line_len(w);
	unsigned y, base = 0, line, scan;
	bool drawn = false;

	for (y = 0; y < w->height; y++) {
		line = (y - base) >> w->doubled;
		scan = line % w->scans;
		at = start + line / w->scans * w->line;
		/*
		 * CGA and Hercules interleave their lines: the row scan counter gives address bits
		 * 13 and 14.
		 */
		if (!(w->crtc_mode & 1)) {
			unsigned bit = 14 + (w->crtc_mode >> 6 & 1);

			at = (at & ~(1u << bit)) | (scan & 1) << bit;
		}
		if (!(w->crtc_mode & 2))
			at = (at & ~(1u << 16)) | (scan >> 1 & 1) << 16;
		if (s->whole || pages_dirty(s, at, len)) {
			if (!drawn || at != last_at)
				draw[w->kind](s->v, w, at, s->line);
			drawn = true;
			last_at = at;
			line_show(s, y, p);
		}
		if (y == w->line_compare) {
			start = 0;
			base = y + 1;
		}
	}
}

/* --- text --- */
static void cell_draw(struct screen *s, unsigned x, unsigned y, uint16_t cell, bool cursor)
{
	const struct view *w = &s->view;
	uint8_t c = cell, attr = cell >> 8;
	unsigned px = w->wide ? 2 : 1;
	/* Attribute bit 3 chooses the font when there are two, else brightness alone. */
	uint32_t font = w->font[attr >> 3 & 1] + c * 32 * 4;
	uint32_t fg = w->pal16[attr & 0xf],
		 bg = w->pal16[attr >> 4 & (w->blink_is_bright ? 0xf : 0x7)];
	size_t stride = s->surface.width;
	uint32_t *to = s->surface.pixels + (size_t)y * w->cell_h * stride +
		       (size_t)x * w->cell_w * px;
	unsigned row, col;

	for (row = 0; row < w->cell_h; row++, to += stride) {
		uint8_t bits = *vram_at(s->v, font + row * 4);
		bool inverse = cursor && row >= w->cursor_from && row <= w->cursor_to;
		uint32_t *t = to;

		for (col = 0; col < w->cell_w; col++) {
			bool on = col < 8 ? bits >> (7 - col) & 1
					  : w->line_graphics && c >= 0xc0 && c <= 0xdf &&
						    (bits & 1);

			put(&t, on || inverse ? fg : bg, w->wide);
		}
	}
}

static void draw_text(struct screen *s, struct report *p)
{
	const struct view *w = &s->view;
	unsigned px = w->cell_w * (w->wide ? 2 : 1);

	for (unsigned y = 0; y < w->rows; y++) {
		unsigned from = w->cols, to = 0;

		for (unsigned x = 0; x < w->cols; x++) {
			unsigned i = y * w->cols + x;
			int pos = (w->start + y * w->line + x) & 0xffff;
			bool cursor = pos == w->cursor;

			if (!s->whole && s->cells[i] == s->shown[i] &&
			    cursor == (pos == s->cursor_shown))
				continue;
			cell_draw(s, x, y, s->cells[i], cursor);
			s->shown[i] = s->cells[i];
			from = MIN(from, x);
			to = x + 1;
		}
		if (from < to)
			for (unsigned line = 0; line < w->cell_h; line++)
				report_line(p, y * w->cell_h + line, from * px, to * px);
	}
	s->cursor_shown = w->cursor;
}

/* Lock held: the cells on the screen. */
static void cells_get(const struct vga *v, const struct view *w, uint16_t *cells)
{
	for (unsigned y = 0; y < w->rows; y++) {
		for (unsigned x = 0; x < w->cols; x++) {
			uint32_t pos = w->start + y * w->line + x;
			const uint8_t *p = v->window == WINDOW_TEXT
						   ? v->text_host + 2 * (pos & (VGA_TEXT_CELLS - 1))
						   : vram_at(v, pos * 4);

			cells[y * w->cols + x] = ld_le16(p);
		}
	}
}

/* --- the display --- */
static struct screen *vga_screen_open(void *ctx)
{
	struct screen *s = xcalloc(1, sizeof(*s));
	struct vga *v = ctx;

	s->v = v;
	s->bits = xcalloc(v->vram_size / 4096 / 8, 1);
	s->cells = xcalloc(TEXT_MAX_COLS * TEXT_MAX_ROWS, sizeof(*s->cells));
	s->shown = xcalloc(TEXT_MAX_COLS * TEXT_MAX_ROWS, sizeof(*s->shown));
	loop_lock(v->pci.dev.loop);
	s->dirty = dirty_client_new(v->mem, v->vram);
	loop_unlock(v->pci.dev.loop);
	return s;
}

static void vga_screen_close(struct screen *s)
{
	struct loop *loop = s->v->pci.dev.loop;

	loop_lock(loop);
	dirty_client_free(s->dirty);
	loop_unlock(loop);
	free(s->surface.pixels);
	free(s->line);
	free(s->bits);
	free(s->cells);
	free(s->shown);
	free(s);
}

/* Registers, text and dirty pages of one moment. */
static void screen_snapshot(struct screen *s, struct view *w)
{
	struct vga *v = s->v;

	loop_lock(v->pci.dev.loop);
	view_get(v, w);
	if (w->kind == VIEW_TEXT)
		cells_get(v, w, s->cells);
	mem_dirty_sync(v->mem);
	dirty_client_take(s->dirty, v->vram, s->bits);
	loop_unlock(v->pci.dev.loop);
}

/* The view but for the cursor, which text draws by itself. */
static bool view_same(const struct view *a, const struct view *b)
{
	struct view x = *a, y = *b;

	x.cursor = y.cursor = 0;
	return !memcmp(&x, &y, sizeof(x));
}

static bool vga_screen_update(struct screen *s,
			      void (*changed)(void *ctx, const struct screen_rect *r), void *ctx)
{
	struct report report = { .changed = changed, .ctx = ctx };
	struct view w;
	bool resized;

	screen_snapshot(s, &w);
	s->whole = !view_same(&w, &s->view);
	resized = w.width != s->surface.width || w.height != s->surface.height;
	s->view = w;
	if (resized) {
		free(s->surface.pixels);
		free(s->line);
		s->surface = (struct surface){ w.width, w.height,
					       xcalloc((size_t)w.width * w.height, 4) };
		s->line = xcalloc(w.width + 32, 4);
	}
	switch (w.kind) {
	case VIEW_BLANK:
		memset(s->line, 0, w.width * 4ul);
		for (unsigned y = 0; s->whole && y < w.height; y++)
			line_show(s, y, &report);
		break;
	case VIEW_TEXT:
		draw_text(s, &report);
		break;
	default:
		draw_graphics(s, &report);
	}
	report_flush(&report);
	return resized;
}

static const struct surface *vga_screen_surface(struct screen *s)
{
	return &s->surface;
}

static bool vga_text(void *ctx, struct text_screen *t, unsigned *width, unsigned *height)
{
	struct vga *v = ctx;
	struct view w;

	loop_lock(v->pci.dev.loop);
	view_get(v, &w);
	if (w.kind == VIEW_TEXT)
		cells_get(v, &w, t->cells);
	loop_unlock(v->pci.dev.loop);
	*width = w.width;
	*height = w.height;
	if (w.kind != VIEW_TEXT)
		return false;
	t->cols = w.cols;
	t->rows = w.rows;
	t->cursor_x = t->cursor_y = -1;
	if (w.cursor >= (int)w.start && w.line) {
		unsigned pos = w.cursor - w.start;

		if (pos / w.line < w.rows && pos % w.line < w.cols) {
			t->cursor_x = pos % w.line;
			t->cursor_y = pos / w.line;
		}
	}
	return true;
}

const struct display_ops vga_display_ops = {
	.open = vga_screen_open,
	.close = vga_screen_close,
	.update = vga_screen_update,
	.surface = vga_screen_surface,
	.text = vga_text,
};
