/*
 * What getopt_long(3) makes of a command line: the reference for src/options/getopt.rs.
 *
 * getopt_long TABLE WORDS...   with TABLE = "Name,letter,long,has_arg ..." (letter "-": none).
 * Prints "Name Name(argument) | words that are left", or "?" where an option is bad, and stops there.
 */
#define _GNU_SOURCE
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX = 64, FIRST_LONG_ONLY = 256 };

int main(int argc, char **argv)
{
	static struct option longs[MAX];
	static char *names[FIRST_LONG_ONLY + MAX];
	static char shorts[4 * MAX] = "+";
	int n = 0, c;

	if (argc < 2)
		return 2;
	for (char *item = strtok(argv[1], " "); item && n < MAX - 1; item = strtok(NULL, " "), n++) {
		char *name = strsep(&item, ","), *letter = strsep(&item, ","), *word = strsep(&item, ",");
		int has_arg = atoi(item);
		int id = *letter == '-' ? FIRST_LONG_ONLY + n : *letter;

		longs[n] = (struct option){ word, has_arg, NULL, id };
		names[id] = name;
		if (*letter != '-') {
			strncat(shorts, letter, 1);
			strcat(shorts, has_arg == 0 ? "" : has_arg == 1 ? ":" : "::");
		}
	}
	argv++, argc--;
	opterr = 0;
	while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		if (c == '?') {
			printf("?");
			return 0;
		}
		if (optarg)
			printf("%s(%s) ", names[c], optarg);
		else
			printf("%s ", names[c]);
	}
	printf("|");
	while (optind < argc)
		printf(" %s", argv[optind++]);
	return 0;
}
