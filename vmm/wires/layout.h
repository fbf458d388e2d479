/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * layout.h: guest-physical addresses that are the same in every machine: the machine puts its chips
 * there, the firmware tables name them. They belong to the machine version.
 */
#ifndef VMM_WIRES_LAYOUT_H
#define VMM_WIRES_LAYOUT_H

#define LAPIC_GPA	0xfee00000u
#define IOAPIC_GPA	0xfec00000u
#define HPET_GPA	0xfed00000u
/*
 * 16 KiB that KVM needs on VT-x without unrestricted guest: the identity map page, then three pages
 * of a TSS.
 */
#define KVM_IDENTITY_GPA 0xfeffc000u
#define KVM_TSS_GPA	0xfeffd000u
#define VMGENID_GPA	0xfeffb000u	/* 4 KiB block; the GUID is at its start */

#endif
