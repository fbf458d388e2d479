/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * piix4_pm.c: power management of the 82371AB (Intel 290562, function 3) as virtual PCs wire it:
 * the ACPI PM1 event and control registers, the 3.58 MHz timer, a SMBus host with an empty bus, the
 * APM ports by which software turns ACPI on, and sixteen general purpose events at a place of their
 * own (0xafe0), which FADT names. Main loop.
 *
 * There is no SMM: DEVACTB says from reset on that APMC is set up, so that firmware does not wait
 * for an SMI.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/chips.h"
#include "vmm/base/log.h"

/* Configuration space. */
#define PM_PMBA		0x40
#define PM_DEVACTB	0x58
#define PM_DEVACTB_APMC	0x02		/* in byte 3 */
#define PM_PMREGMISC	0x80		/* bit 0: PM ports decode */
#define PM_SMBBA	0x90
#define PM_SMBHSTCFG	0xd2		/* bit 0: SMBus ports decode; 3:1 interrupt, 4: IRQ9 */
#define PM_LEN		64
#define SMB_LEN		16

/* PM1 (ACPI 6.0, 4.8.3). */
#define PMSTS		0x00
#define PMEN		0x02
#define PMCNTRL		0x04
#define PMTMR		0x08
#define TMR_STS		(1 << 0)
#define GBL_STS		(1 << 5)
#define PWRBTN_STS	(1 << 8)
#define RTC_STS		(1 << 10)
#define WAK_STS		(1 << 15)
#define STS_MASK	(TMR_STS | GBL_STS | PWRBTN_STS | RTC_STS | WAK_STS)
#define EN_MASK		(TMR_STS | GBL_STS | PWRBTN_STS | RTC_STS)
#define SCI_EN		(1 << 0)
#define BM_RLD		(1 << 1)
#define SLP_TYP_SHIFT	10
#define SLP_TYP_MASK	(7 << SLP_TYP_SHIFT)
#define SLP_EN		(1 << 13)
#define CNT_MASK	(SCI_EN | BM_RLD | SLP_TYP_MASK)
#define PM_TIMER_HZ	3579545
#define PM_TIMER_MASK	0xffffff
#define PM_TIMER_HALF	0x800000	/* TMR_STS is set when bit 23 changes */

#define GPE0_PORT	0xafe0
#define APM_PORT	0xb2
#define ACPI_ENABLE	0xf1		/* what FADT tells software to write to APMC */
#define ACPI_DISABLE	0xf0

/* SMBus host registers. */
enum { HSTSTS = 0, HSTCNT = 2, HSTCMD = 3, HSTADD = 4, HSTDAT0 = 5, HSTDAT1 = 6, SMB_REGS = 16 };
#define HSTSTS_DEV_ERR	0x04
#define HSTSTS_FAILED	0x10
#define HSTSTS_MASK	0x1e
#define HSTCNT_INTEREN	0x01
#define HSTCNT_KILL	0x02
#define HSTCNT_START	0x40

struct piix4_pm {
	struct pci_dev pci;
	struct piix4_pm_opts o;
	struct vm_clock *clock;
	struct loop_timer overflow;	/* armed while TMR_EN can raise the interrupt */
	uint16_t pmsts, pmen, pmcntrl, gpe_sts, gpe_en;
	uint64_t next_overflow;		/* in timer ticks, not wrapped */
	uint8_t apmc, apms;
	uint8_t smb[SMB_REGS];
	bool remap_pending;
	uint16_t pm_at, smb_at;		/* where the ports are mapped; 0: nowhere */
};

static struct piix4_pm *of(struct device *d)
{
	return container_of(d, struct piix4_pm, pci.dev);
}

/* --- timer and interrupt --- */

static uint64_t ticks_now(const struct piix4_pm *s)
{
	return (uint64_t)((unsigned __int128)(uint64_t)vm_clock_now(s->clock) * PM_TIMER_HZ /
			  NS_PER_SEC);
}

static int64_t ticks_to_ns(uint64_t ticks)
{
	return (int64_t)((unsigned __int128)ticks * NS_PER_SEC / PM_TIMER_HZ) + 1;
}

/* Whether bit 23 changed since software last cleared the status. */
static void overflow_check(struct piix4_pm *s)
{
	if (ticks_now(s) >= s->next_overflow)
		s->pmsts |= TMR_STS;
}

static void overflow_clear(struct piix4_pm *s)
{
	s->next_overflow = (ticks_now(s) / PM_TIMER_HALF + 1) * PM_TIMER_HALF;
}

static void sci_update(struct piix4_pm *s)
{
	bool smb = (s->smb[HSTCNT] & HSTCNT_INTEREN) && (s->smb[HSTSTS] & HSTSTS_MASK) &&
		   (s->pci.config[PM_SMBHSTCFG] >> 1 & 7) == 4;
	bool level;

	overflow_check(s);
	level = (s->pmcntrl & SCI_EN) &&
		((s->pmsts & s->pmen & EN_MASK) || (s->gpe_sts & s->gpe_en));
	irq_set(&s->o.sci, level || smb);
	if ((s->pmen & TMR_STS) && !(s->pmsts & TMR_STS))
		loop_timer_set(&s->overflow, ticks_to_ns(s->next_overflow));
	else
		loop_timer_cancel(&s->overflow);
}

static void overflow_expired(void *ctx)
{
	sci_update(ctx);
}

/* --- sleeping and waking --- */

static void sleep_enter(struct piix4_pm *s)
{
	struct vm *vm = pci_bus_wires(s->pci.bus)->vm;

	switch ((s->pmcntrl & SLP_TYP_MASK) >> SLP_TYP_SHIFT) {
	case PIIX4_SLP_S5:
	case PIIX4_SLP_S4:	/* the guest has written its memory to a disk; to us both are off */
		vm_request(vm, VM_END_POWEROFF, 0);
		break;
	case PIIX4_SLP_S3:
		if (s->o.suspend)
			s->o.suspend(s->o.suspend_ctx);
		else
			log_guest(
				"the guest wants to sleep (S3), which this machine does not offer");
		break;
	default:
		log_guest("the guest asks for sleep type %d, which its ACPI tables do not list",
			  (s->pmcntrl & SLP_TYP_MASK) >> SLP_TYP_SHIFT);
	}
}

void piix4_pm_power_button(struct device *d)
{
	of(d)->pmsts |= PWRBTN_STS;
	sci_update(of(d));
}

bool piix4_pm_button_heard(const struct device *d)
{
	return container_of(d, const struct piix4_pm, pci.dev)->pmen & PWRBTN_STS;
}

void piix4_pm_rtc_alarm(struct device *d)
{
	of(d)->pmsts |= RTC_STS;
	sci_update(of(d));
}

void piix4_pm_gpe(struct device *d, unsigned n)
{
	if (n < 16)
		of(d)->gpe_sts |= 1u << n;
	sci_update(of(d));
}

void piix4_pm_woken(struct device *d, enum pm_wake why)
{
	struct piix4_pm *s = of(d);

	s->pmsts |= WAK_STS;
	if (why == PM_WAKE_POWER_BUTTON)
		s->pmsts |= PWRBTN_STS;
	else if (why == PM_WAKE_RTC)
		s->pmsts |= RTC_STS;
	sci_update(s);
}

/* --- PM ports: 16-bit registers and the timer, at any width --- */

static uint16_t pm_half(struct piix4_pm *s, uint64_t off, uint32_t timer)
{
	switch (off) {
	case PMSTS:
		return s->pmsts;
	case PMEN:
		return s->pmen;
	case PMCNTRL:
		return s->pmcntrl;
	case PMTMR:
		return timer & 0xffff;
	case PMTMR + 2:
		return timer >> 16;
	default:
		return 0;
	}
}

static uint64_t pm_read(void *dev, uint64_t off, unsigned size)
{
	struct piix4_pm *s = dev;
	uint32_t timer = ticks_now(s) & PM_TIMER_MASK, val = 0;

	overflow_check(s);
	for (unsigned i = 0; i < size; i++) {
		uint16_t half = pm_half(s, (off + i) & ~1ull, timer);

		val |= (uint32_t)(half >> ((off + i) & 1 ? 8 : 0) & 0xff) << (8 * i);
	}
	return val;
}

static void pm_half_write(struct piix4_pm *s, uint64_t off, uint16_t val, uint16_t mask)
{
	switch (off) {
	case PMSTS:
		overflow_check(s);
		s->pmsts &= ~(val & mask);
		if (val & mask & TMR_STS)
			overflow_clear(s);
		break;
	case PMEN:
		s->pmen = ((s->pmen & ~mask) | (val & mask)) & EN_MASK;
		break;
	case PMCNTRL:
		s->pmcntrl = ((s->pmcntrl & ~mask) | (val & mask)) & CNT_MASK;
		if (val & mask & SLP_EN)
			sleep_enter(s);
		break;
	}
}

static void pm_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct piix4_pm *s = dev;
	uint64_t first = off & ~1ull;
	unsigned shift = 8 * (off & 1);
	uint64_t bits = (size == 4 ? 0xffffffffull : size == 2 ? 0xffff : 0xff) << shift;

	val <<= shift;
	for (; bits; bits >>= 16, val >>= 16, first += 2)
		if (bits & 0xffff)
			pm_half_write(s, first, val & 0xffff, bits & 0xffff);
	sci_update(s);
}

static const char *pm_name(void *dev, uint64_t off, bool is_write)
{
	static const char *const names[] = { "PMSTS", "PMEN", "PMCNTRL", NULL, "PMTMR", "PMTMR" };

	return off / 2 < ARRAY_SIZE(names) ? names[off / 2] : NULL;
}

static const struct region_ops pm_ops = {
	.name = "82371ab-pm",
	.read = pm_read,
	.write = pm_write,
	.max_width = 4,
	.reg_name = pm_name,
};

/* --- general purpose events: two status bytes, two enable bytes --- */

static uint64_t gpe_read(void *dev, uint64_t off, unsigned size)
{
	struct piix4_pm *s = dev;
	uint16_t reg = off < 2 ? s->gpe_sts : s->gpe_en;

	return reg >> (8 * (off & 1)) & 0xff;
}

static void gpe_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct piix4_pm *s = dev;
	unsigned shift = 8 * (off & 1);

	if (off < 2)
		s->gpe_sts &= ~((val & 0xff) << shift);
	else
		s->gpe_en = (s->gpe_en & ~(0xff << shift)) | (uint16_t)((val & 0xff) << shift);
	sci_update(s);
}

static const char *gpe_name(void *dev, uint64_t off, bool is_write)
{
	return off < 2 ? "GPE0_STS" : "GPE0_EN";
}

static const struct region_ops gpe_ops = {
	.name = "82371ab-gpe",
	.read = gpe_read,
	.write = gpe_write,
	.max_width = 1,
	.reg_name = gpe_name,
};

/* --- APM control and status --- */

static uint64_t apm_read(void *dev, uint64_t off, unsigned size)
{
	struct piix4_pm *s = dev;

	return off ? s->apms : s->apmc;
}

static void apm_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct piix4_pm *s = dev;

	if (off) {
		s->apms = (uint8_t)val;
		return;
	}
	s->apmc = (uint8_t)val;
	if (val == ACPI_ENABLE)
		s->pmcntrl |= SCI_EN;
	else if (val == ACPI_DISABLE)
		s->pmcntrl &= ~SCI_EN;
	sci_update(s);
}

static const char *apm_name(void *dev, uint64_t off, bool is_write)
{
	return off ? "APMS" : "APMC";
}

static const struct region_ops apm_ops = {
	.name = "82371ab-apm",
	.read = apm_read,
	.write = apm_write,
	.max_width = 1,
	.reg_name = apm_name,
};

/* --- SMBus host: every address answers with nothing, as on a board without sensors --- */

static uint64_t smb_read(void *dev, uint64_t off, unsigned size)
{
	struct piix4_pm *s = dev;

	return s->smb[off];
}

static void smb_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct piix4_pm *s = dev;

	switch (off) {
	case HSTSTS:
		s->smb[HSTSTS] &= ~(val & HSTSTS_MASK);
		break;
	case HSTCNT:
		s->smb[HSTCNT] = val & ~HSTCNT_START;
		if (val & HSTCNT_KILL)
			s->smb[HSTSTS] |= HSTSTS_FAILED;
		else if (val & HSTCNT_START)
			s->smb[HSTSTS] |= HSTSTS_DEV_ERR;
		break;
	case HSTCMD:
	case HSTADD:
	case HSTDAT0:
	case HSTDAT1:
		s->smb[off] = (uint8_t)val;
		break;
	}
	sci_update(s);
}

static const char *smb_name(void *dev, uint64_t off, bool is_write)
{
	static const char *const names[SMB_REGS] = {
		[HSTSTS] = "HSTSTS", [HSTCNT] = "HSTCNT",   [HSTCMD] = "HSTCMD",
		[HSTADD] = "HSTADD", [HSTDAT0] = "HSTDAT0", [HSTDAT1] = "HSTDAT1"
	};

	return off < SMB_REGS && names[off] ? names[off] : "SMBus";
}

static const struct region_ops smb_ops = {
	.name = "82371ab-smb",
	.read = smb_read,
	.write = smb_write,
	.max_width = 1,
	.reg_name = smb_name,
};

/* --- where the ports are --- */

static uint16_t pm_wanted(const struct piix4_pm *s)
{
	return s->pci.config[PM_PMREGMISC] & 1 ? ld_le16(s->pci.config + PM_PMBA) & ~(PM_LEN - 1)
					       : 0;
}

static uint16_t smb_wanted(const struct piix4_pm *s)
{
	return s->pci.config[PM_SMBHSTCFG] & 1 ? ld_le16(s->pci.config + PM_SMBBA) & ~(SMB_LEN - 1)
					       : 0;
}

static void ports_move(struct piix4_pm *s, uint16_t *at, uint16_t to, uint64_t len,
		       const struct region_ops *ops)
{
	const struct pci_wires *w = pci_bus_wires(s->pci.bus);
	int ret;

	if (*at == to)
		return;
	if (*at)
		bus_del(w->pio, *at, ops, s);
	*at = 0;
	if (!to)
		return;
	ret = bus_add(w->pio, to, len, ops, s, w->loop, "piix4-pm", BUS_GUEST);
	if (ret < 0)
		log_guest("piix4-pm: the guest put %s at port 0x%x: %s", ops->name, to,
			  strerror(-ret));
	else
		*at = to;
}

static void ports_apply(void *ctx)
{
	struct piix4_pm *s = ctx;

	s->remap_pending = false;
	ports_move(s, &s->pm_at, pm_wanted(s), PM_LEN, &pm_ops);
	ports_move(s, &s->smb_at, smb_wanted(s), SMB_LEN, &smb_ops);
}

static void ports_changed(struct piix4_pm *s)
{
	if (s->remap_pending || (s->pm_at == pm_wanted(s) && s->smb_at == smb_wanted(s)))
		return;
	s->remap_pending = true;
	pci_exclusive(s->pci.bus, ports_apply, s);
}

static void config_written(struct pci_dev *p, unsigned off, unsigned size)
{
	struct piix4_pm *s = container_of(p, struct piix4_pm, pci);

	ports_changed(s);
	sci_update(s);
}

/* --- the device --- */

static void piix4_pm_reset(struct device *d)
{
	struct piix4_pm *s = of(d);

	s->pmsts = s->pmen = 0;
	/*
	 * The FADT names no SMI_CMD, so ACPI mode is on from the start and nobody will switch it on
	 * (ACPI 6.4, 4.8.2.5).
	 */
	s->pmcntrl = SCI_EN;
	s->gpe_sts = s->gpe_en = 0;
	s->apmc = s->apms = 0;
	memset(s->smb, 0, sizeof(s->smb));
	overflow_clear(s);
	pci_dev_reset(&s->pci);
	ports_changed(s);
	sci_update(s);
}

static const struct state_field pm_fields[] = {
	STATE_FIELD(struct piix4_pm, STATE_U16, pmsts),
	STATE_FIELD(struct piix4_pm, STATE_U16, pmen),
	STATE_FIELD(struct piix4_pm, STATE_U16, pmcntrl),
	STATE_FIELD(struct piix4_pm, STATE_U16, gpe_sts),
	STATE_FIELD(struct piix4_pm, STATE_U16, gpe_en),
	STATE_FIELD(struct piix4_pm, STATE_U64, next_overflow),
	STATE_FIELD(struct piix4_pm, STATE_U8, apmc),
	STATE_FIELD(struct piix4_pm, STATE_U8, apms),
	STATE_FIELD(struct piix4_pm, STATE_BYTES, smb),
};

static int piix4_pm_save(struct device *d, struct state_out *o)
{
	overflow_check(of(d));
	state_save_fields(o, of(d), pm_fields, ARRAY_SIZE(pm_fields));
	return pci_dev_save(&of(d)->pci, o);
}

static int piix4_pm_load(struct device *d, struct state_in *in, uint32_t version)
{
	struct piix4_pm *s = of(d);
	int ret = state_load_fields(in, s, pm_fields, ARRAY_SIZE(pm_fields));

	if (!ret && ((s->pmsts & ~STS_MASK) || (s->pmen & ~EN_MASK) || (s->pmcntrl & ~CNT_MASK)))
		ret = state_bad(in, "PM1 0x%x 0x%x 0x%x has reserved bits", s->pmsts, s->pmen,
				s->pmcntrl);
	if (!ret && s->next_overflow > (uint64_t)INT64_MAX / NS_PER_SEC * PM_TIMER_HZ)
		ret = state_bad(in, "the timer's next overflow lies beyond the end of time");
	if (!ret)
		ret = pci_dev_load(&s->pci, in);
	if (ret < 0) {
		piix4_pm_reset(d);
		return ret;
	}
	ports_apply(s);
	sci_update(s);
	return 0;
}

static void piix4_pm_destroy(struct device *d)
{
	struct piix4_pm *s = of(d);
	struct bus *pio = pci_bus_wires(s->pci.bus)->pio;

	loop_timer_cancel(&s->overflow);
	ports_move(s, &s->pm_at, 0, PM_LEN, &pm_ops);
	ports_move(s, &s->smb_at, 0, SMB_LEN, &smb_ops);
	bus_del(pio, GPE0_PORT, &gpe_ops, s);
	bus_del(pio, APM_PORT, &apm_ops, s);
	pci_dev_exit(&s->pci);
	free(s);
}

static const struct device_ops piix4_pm_device = {
	.name = "piix4-pm",
	.version = 1,
	.reset = piix4_pm_reset,
	.save = piix4_pm_save,
	.load = piix4_pm_load,
	.destroy = piix4_pm_destroy,
};

static const struct pci_id piix4_pm_id = {
	.vendor = 0x8086, .device = 0x7113, .class_rev = 0x06800003, .intx = true,
	.subsystem_vendor = 0x1af4, .subsystem = 0x1100,
};

static void config_init(struct piix4_pm *s)
{
	uint8_t *c = s->pci.config, *w = s->pci.wmask;

	st_le16(c + PCI_STATUS, PCI_STATUS_FAST_BACK | PCI_STATUS_DEVSEL_MEDIUM);
	st_le32(c + PM_PMBA, 1);
	st_le32(w + PM_PMBA, 0xffc0);
	/* timers, traps and device resources: remembered, without effect here */
	memset(w + 0x44, 0xff, 0x80 - 0x44);
	c[PM_DEVACTB + 3] = PM_DEVACTB_APMC;
	/* DEVRESA: no LPT; what boards of this kind reset to */
	c[0x5f] = 0x10;
	c[0x63] = 0x60;				/* DEVRESB */
	w[PM_PMREGMISC] = 0x01;
	st_le32(c + PM_SMBBA, 1);
	st_le32(w + PM_SMBBA, 0xfff0);
	w[PM_SMBHSTCFG] = 0x0f;
	s->pci.config_written = config_written;
}

struct device *piix4_pm_new(struct pci_bus *pci, const struct piix4_pm_opts *o, struct err *err)
{
	const struct pci_wires *w = pci_bus_wires(pci);
	struct piix4_pm *s = xcalloc(1, sizeof(*s));
	int ret;

	s->pmcntrl = SCI_EN;
	s->o = *o;
	s->clock = vm_get_clock(w->vm);
	loop_timer_init(&s->overflow, w->loop, s->clock, overflow_expired, s);
	overflow_clear(s);
	device_init(&s->pci.dev, &piix4_pm_device, "piix4-pm", w->loop);
	ret = pci_dev_init(&s->pci, pci, o->devfn, &piix4_pm_id);
	if (ret < 0)
		goto fail;
	config_init(s);
	ret = bus_add(w->pio, GPE0_PORT, 4, &gpe_ops, s, w->loop, "piix4-pm", 0);
	if (ret < 0)
		goto fail_pci;
	ret = bus_add(w->pio, APM_PORT, 2, &apm_ops, s, w->loop, "piix4-pm", 0);
	if (ret < 0)
		goto fail_gpe;
	return &s->pci.dev;
fail_gpe:
	bus_del(w->pio, GPE0_PORT, &gpe_ops, s);
fail_pci:
	pci_dev_exit(&s->pci);
fail:
	err_set(err, -ret, "power management cannot be plugged in: %s", strerror(-ret));
	free(s->pci.dev.id);
	free(s);
	return NULL;
}
