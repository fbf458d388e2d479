/* SPDX-License-Identifier: GPL-2.0-or-later */
/* words.c: a command line as a list, and as text for a shell. */
#include <stdio.h>
#include <stdlib.h>

#include "vmm/config/config.h"

static void add(struct words *w, char *word)
{
	w->word = xrealloc(w->word, (w->n + 1) * sizeof(*w->word));
	w->word[w->n++] = word;
}

void words_flag(struct words *w, const char *option)
{
	add(w, xasprintf("-%s", option));
}

void words_add(struct words *w, const char *option, char *text)
{
	if (!text)
		return;
	words_flag(w, option);
	add(w, text);
}

void words_free(struct words *w)
{
	for (unsigned i = 0; i < w->n; i++)
		free(w->word[i]);
	free(w->word);
	*w = (struct words){ 0 };
}

/* What a shell might read otherwise is between single quotes. */
static void put_word(FILE *out, const char *s)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789-_./:=,+@%";

	if (*s && strspn(s, plain) == strlen(s)) {
		fputs(s, out);
		return;
	}
	fputc('\'', out);
	for (; *s; s++)
		fprintf(out, *s == '\'' ? "'\\''" : "%c", *s);
	fputc('\'', out);
}

char *words_text(const struct words *w)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return xstrdup("");
	for (unsigned i = 0; i < w->n; i++) {
		/* An option's argument never begins its line. */
		bool argument = i && w->word[i - 1][0] == '-' && w->word[i][0] != '-';

		fputs(!i ? "" : argument ? " " : " \\\n", out);
		put_word(out, w->word[i]);
	}
	fputs("\n", out);
	fclose(out);
	return text;
}
