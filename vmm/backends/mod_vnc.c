/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mod_vnc.c: the screen for VNC viewers, by libvncserver (RFC 6143 and its extensions). A module:
 * the program links it not.
 *
 * Threads: ours accepts viewers and keeps the picture up to date while there are any; libvncserver
 * has two for each viewer (reading, and encoding what changed), so that a slow one delays nobody.
 * Nobody watching: our thread sleeps.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rfb/rfb.h>

#include "vmm/backends/vnc.h"
#include "vmm/base/acceptor.h"
#include "vmm/base/limits.h"
#include "vmm/base/log.h"

#define INTERVAL_MIN_MS 33		/* while the picture changes */
#define INTERVAL_MAX_MS 250		/* while it stands */
#define MAX_VIEWERS 32
#define PASSWORD_MAX 8

struct vnc {
	rfbScreenInfoPtr rfb;
	struct vnc_opts o;
	struct screen *screen;		/* open while somebody watches */
	int64_t accept_at;		/* no descriptor for a viewer: not before this time */
	pthread_t thread;
	int wake;			/* eventfd: input came, a viewer left, stop */
	bool stop;
	uint32_t *pixels;		/* what libvncserver encodes from */
	bool changed;			/* by the last update */
	pthread_mutex_t mutex;		/* what follows */
	unsigned viewers;
	pthread_t *gone;		/* viewers' threads that have ended or soon will */
	unsigned ngone;
	bool active;			/* somebody typed: look at once */
	struct typist typist;
	int x, y;			/* the pointer, as last told */
	unsigned buttons;
	bool pointer_known;
	char password[PASSWORD_MAX + 1];
	bool has_password;
};

static void vnc_wake(struct vnc *v)
{
	uint64_t one = 1;

	if (write(v->wake, &one, sizeof(one)) != sizeof(one))
		log_debug("vnc: the wake-up counter is full");
}

/* --- viewers: called on libvncserver's threads --- */
static void viewer_gone(rfbClientPtr cl)
{
	struct vnc *v = cl->screen->screenData;

	pthread_mutex_lock(&v->mutex);
	/*
	 * This is the viewer's own thread, near its end: our thread joins it, the library would
	 * not.
	 */
	v->gone = xrealloc(v->gone, (v->ngone + 1) * sizeof(*v->gone));
	v->gone[v->ngone++] = pthread_self();
	v->viewers--;
	/* What this viewer held down nobody would ever release. */
	typist_release_all(&v->typist);
	pthread_mutex_unlock(&v->mutex);
	log_info("vnc: viewer %s left", cl->host);
	vnc_wake(v);
}

static enum rfbNewClientAction viewer_new(rfbClientPtr cl)
{
	struct vnc *v = cl->screen->screenData;

	cl->clientGoneHook = viewer_gone;
	pthread_mutex_lock(&v->mutex);
	v->viewers++;
	pthread_mutex_unlock(&v->mutex);
	log_info("vnc: viewer %s", cl->host);
	return RFB_CLIENT_ACCEPT;
}

static rfbBool password_check(rfbClientPtr cl, const char *response, int len)
{
	struct vnc *v = cl->screen->screenData;
	uint8_t want[CHALLENGESIZE], diff = 0;
	char password[PASSWORD_MAX + 1];
	bool has;

	pthread_mutex_lock(&v->mutex);
	has = v->has_password;
	memcpy(password, v->password, sizeof(password));
	pthread_mutex_unlock(&v->mutex);
	memcpy(want, cl->authChallenge, sizeof(want));
	rfbEncryptBytes(want, password);
	explicit_bzero(password, sizeof(password));
	if (!has || len != CHALLENGESIZE) {
		log_warn("vnc: viewer %s refused: %s", cl->host,
			 has ? "bad answer" : "no password is set; \"set_password vnc\" does");
		return FALSE;
	}
	for (unsigned i = 0; i < sizeof(want); i++)
		diff |= want[i] ^ (uint8_t)response[i];
	if (diff)
		log_warn("vnc: viewer %s refused: wrong password", cl->host);
	return !diff;
}

static void on_key(rfbBool down, rfbKeySym keysym, rfbClientPtr cl)
{
	struct vnc *v = cl->screen->screenData;

	pthread_mutex_lock(&v->mutex);
	typist_key(&v->typist, keysym, down);
	v->active = true;
	pthread_mutex_unlock(&v->mutex);
	vnc_wake(v);
}

/* Bits of the protocol: left, middle, right, wheel up, wheel down. */
static void on_pointer(int mask, int x, int y, rfbClientPtr cl)
{
	struct vnc *v = cl->screen->screenData;
	unsigned buttons = (mask & 1 ? PS2_BUTTON_LEFT : 0) | (mask & 2 ? PS2_BUTTON_MIDDLE : 0) |
			   (mask & 4 ? PS2_BUTTON_RIGHT : 0);
	const struct input *in = v->o.input;
	int dx = 0, dy = 0, dz;

	pthread_mutex_lock(&v->mutex);
	if (v->pointer_known) {
		dx = x - v->x;
		dy = y - v->y;
	}
	v->pointer_known = true;
	v->x = x;
	v->y = y;
	dz = (mask & 8 ? -1 : 0) + (mask & 16 ? 1 : 0);
	if (in->pointer &&
	    in->pointer(in->ctx, x, y, cl->screen->width, cl->screen->height, dz, buttons))
		;
	else if (in->mouse && (dx || dy || dz || buttons != v->buttons))
		in->mouse(in->ctx, dx, dy, dz, buttons);
	v->buttons = buttons;
	v->active = true;
	pthread_mutex_unlock(&v->mutex);
	vnc_wake(v);
}

/* --- our thread --- */
static void on_changed(void *ctx, const struct screen_rect *r)
{
	const struct surface *s;
	struct vnc *v = ctx;

	s = v->o.display->ops->surface(v->screen);
	if (!v->pixels || v->rfb->width != (int)s->width || v->rfb->height != (int)s->height)
		return;		/* the size changed: all of it goes out anyway */
	for (unsigned y = r->y; y < r->y + r->h; y++)
		memcpy(v->pixels + (size_t)y * s->width + r->x,
		       s->pixels + (size_t)y * s->width + r->x, r->w * 4ul);
	rfbMarkRectAsModified(v->rfb, r->x, r->y, r->x + r->w, r->y + r->h);
	v->changed = true;
}

static void set_format(rfbScreenInfoPtr rfb)
{
	rfb->serverFormat.redShift = 16;
	rfb->serverFormat.greenShift = 8;
	rfb->serverFormat.blueShift = 0;
}

/* A picture of another size: viewers that can are told, the others see the part that fits. */
static void resize(struct vnc *v)
{
	const struct surface *s = v->o.display->ops->surface(v->screen);
	uint32_t *old = v->pixels;

	v->pixels = xcalloc((size_t)s->width * s->height, 4);
	memcpy(v->pixels, s->pixels, (size_t)s->width * s->height * 4);
	rfbNewFramebuffer(v->rfb, (char *)v->pixels, s->width, s->height, 8, 3, 4);
	set_format(v->rfb);
	free(old);
	v->changed = true;
}

static void picture_update(struct vnc *v)
{
	if (!v->screen)
		v->screen = screen_open(v->o.display);
	if (v->o.display->ops->update(v->screen, on_changed, v) || !v->pixels)
		resize(v);
}

static void viewer_accept(struct vnc *v)
{
	int fd = accept4(v->o.listen_fd, NULL, NULL, SOCK_CLOEXEC);
	rfbClientPtr cl;

	if (fd < 0) {
		if (accept_exhausted(errno)) {
			log_host("vnc: a viewer has to wait: %s (see ulimit -n)", strerror(errno));
			v->accept_at = now_ns() + ACCEPT_REST_NS;
		}
		return;
	}
	if (v->viewers >= MAX_VIEWERS) {
		log_warn("vnc: more than %d viewers; this one is turned away", MAX_VIEWERS);
		close(fd);
		return;
	}
	picture_update(v);
	cl = rfbNewClient(v->rfb, fd);
	if (cl && !cl->onHold)
		rfbStartOnHoldClient(cl);
}

/* Joins the threads of viewers that left. */
static void viewers_reap(struct vnc *v)
{
	pthread_t *gone;
	unsigned n;

	pthread_mutex_lock(&v->mutex);
	gone = v->gone;
	n = v->ngone;
	v->gone = NULL;
	v->ngone = 0;
	pthread_mutex_unlock(&v->mutex);
	while (n)
		pthread_join(gone[--n], NULL);
	free(gone);
}

/* Hangs up on everybody and waits until their threads are over. */
static void viewers_close(struct vnc *v)
{
	rfbClientIteratorPtr i = rfbGetClientIterator(v->rfb);
	struct pollfd p = { v->wake, POLLIN, 0 };
	rfbClientPtr cl;
	uint64_t count;

	while ((cl = rfbClientIteratorNext(i)))
		rfbCloseClient(cl);
	rfbReleaseClientIterator(i);
	for (;;) {
		unsigned viewers;

		pthread_mutex_lock(&v->mutex);
		viewers = v->viewers;
		pthread_mutex_unlock(&v->mutex);
		viewers_reap(v);
		if (!viewers)
			return;
		if (poll(&p, 1, -1) > 0 && read(v->wake, &count, sizeof(count)) < 0 &&
		    errno != EAGAIN)
			return;
	}
}

static void *vnc_thread(void *arg)
{
	struct vnc *v = arg;
	int interval = INTERVAL_MIN_MS;
	int64_t next = 0;

	pthread_setname_np(pthread_self(), "vnc");
	while (!__atomic_load_n(&v->stop, __ATOMIC_ACQUIRE)) {
		bool resting = v->accept_at > now_ns();
		struct pollfd p[2] = { { v->o.listen_fd, resting ? 0 : POLLIN, 0 },
				       { v->wake, POLLIN, 0 } };
		int64_t now = now_ns() / NS_PER_MS;
		uint64_t count;
		unsigned viewers;
		bool typed;

		viewers_reap(v);
		pthread_mutex_lock(&v->mutex);
		viewers = v->viewers;
		pthread_mutex_unlock(&v->mutex);
		if (!viewers && v->screen) {
			/* Nobody watches: the guest's writes need not be logged. */
			v->o.display->ops->close(v->screen);
			v->screen = NULL;
		}
		if (poll(p, 2,
			 !viewers     ? (resting ? (int)(ACCEPT_REST_NS / NS_PER_MS) : -1)
			 : next > now ? (int)(next - now)
				      : 0) < 0 &&
		    errno != EINTR)
			break;
		if (p[1].revents && read(v->wake, &count, sizeof(count)) < 0 && errno != EAGAIN)
			break;
		if (p[0].revents)
			viewer_accept(v);
		pthread_mutex_lock(&v->mutex);
		viewers = v->viewers;
		typed = v->active;
		v->active = false;
		pthread_mutex_unlock(&v->mutex);
		now = now_ns() / NS_PER_MS;
		if (typed) {
			/* An answer to a key is due soon, but no earlier than the next picture. */
			interval = INTERVAL_MIN_MS;
			next = MIN(next, now + interval);
		}
		if (!viewers || now < next)
			continue;
		v->changed = false;
		picture_update(v);
		interval = v->changed ? INTERVAL_MIN_MS
				      : MIN(interval + interval / 8 + 1, INTERVAL_MAX_MS);
		next = now + interval;
	}
	return NULL;
}

/* --- the module's door --- */
static void log_quietly(const char *fmt, ...)
{
}

static void vnc_set_password(struct vnc *v, const char *password)
{
	pthread_mutex_lock(&v->mutex);
	memset(v->password, 0, sizeof(v->password));
	if (password)
		memcpy(v->password, password, strnlen(password, PASSWORD_MAX));
	v->has_password = password != NULL;
	pthread_mutex_unlock(&v->mutex);
}

static unsigned vnc_clients(struct vnc *v)
{
	unsigned n;

	pthread_mutex_lock(&v->mutex);
	n = v->viewers;
	pthread_mutex_unlock(&v->mutex);
	return n;
}

static rfbScreenInfoPtr server_new(struct vnc *v)
{
	static char name[] = "minivmm", *argv[] = { name, NULL };
	rfbScreenInfoPtr rfb;
	int argc = 1;

	rfbLog = rfbErr = log_quietly;
	rfb = rfbGetScreen(&argc, argv, 640, 400, 8, 3, 4);
	if (!rfb)
		return NULL;
	set_format(rfb);
	rfb->desktopName = xstrdup(v->o.name && *v->o.name ? v->o.name : "minivmm");
	rfb->frameBuffer = xcalloc(640 * 400, 4);
	rfb->port = rfb->ipv6port = 0;
	rfb->autoPort = FALSE;
	rfb->alwaysShared = TRUE;
	rfb->cursor = NULL;		/* the guest draws its own */
	rfb->deferUpdateTime = 2;
	rfb->screenData = v;
	rfb->newClientHook = viewer_new;
	rfb->kbdAddEvent = on_key;
	rfb->ptrAddEvent = on_pointer;
	if (v->o.need_password) {
		rfb->authPasswdData = v;
		rfb->passwordCheck = password_check;
	}
	/* Without a port it opens no socket; with this, viewers get threads. */
	rfb->backgroundLoop = TRUE;
	rfbInitServer(rfb);
	return rfb;
}

static struct vnc *vnc_start(const struct vnc_opts *o, struct err *err)
{
	struct vnc *v = xcalloc(1, sizeof(*v));
	int ret;

	v->o = *o;
	pthread_mutex_init(&v->mutex, NULL);
	v->typist = (struct typist){ .map = o->keymap, .input = o->input };
	if (o->password)
		vnc_set_password(v, o->password);
	v->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	v->rfb = server_new(v);
	ret = v->wake < 0 || !v->rfb ? ENOMEM : pthread_create(&v->thread, NULL, vnc_thread, v);
	if (ret) {
		err_set(err, ret, "the VNC server cannot start: %s", strerror(ret));
		close(o->listen_fd);
		free(v);
		return NULL;
	}
	return v;
}

static void vnc_stop(struct vnc *v)
{
	__atomic_store_n(&v->stop, true, __ATOMIC_RELEASE);
	vnc_wake(v);
	pthread_join(v->thread, NULL);
	viewers_close(v);
	if (v->screen)
		v->o.display->ops->close(v->screen);
	close(v->o.listen_fd);
	close(v->wake);
	free((char *)v->rfb->desktopName);
	if (!v->pixels)
		free(v->rfb->frameBuffer);
	rfbScreenCleanup(v->rfb);
	free(v->pixels);
	pthread_mutex_destroy(&v->mutex);
	free(v);
}

extern const struct vnc_ops vnc_module;
const struct vnc_ops vnc_module = {
	.start = vnc_start,
	.set_password = vnc_set_password,
	.clients = vnc_clients,
	.stop = vnc_stop,
};
