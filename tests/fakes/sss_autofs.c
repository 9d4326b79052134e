/* Stands in for libsss_autofs.so: maps are the files /etc/fake.NAME with lines "KEY TEXT". Some keys do what libraries do
   that are broken. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct map {
    FILE *file;
};

unsigned int _sss_auto_protocol_version(unsigned int wanted)
{
    return wanted;
}

/* Waits for as many seconds as /etc/fake.delay says, as the client of an sssd that is slow or stopped does. */
static void delay(void)
{
    FILE *file = fopen("/etc/fake.delay", "r");
    unsigned int seconds = 0;

    if (file == NULL)
        return;
    if (fscanf(file, "%u", &seconds) == 1)
        sleep(seconds);
    fclose(file);
}

int _sss_setautomntent(const char *name, void **context)
{
    char path[256];
    struct map *map;

    delay();
    if (access("/etc/fake.down", F_OK) == 0)
        return ECONNREFUSED;
    if (access("/etc/fake.offline", F_OK) == 0)
        return EHOSTDOWN;
    map = calloc(1, sizeof(*map));
    snprintf(path, sizeof(path), "/etc/fake.%s", name);
    map->file = fopen(path, "r");
    if (map->file == NULL) {
        free(map);
        return ENOENT;
    }
    *context = map;
    return 0;
}

int _sss_getautomntent_r(char **key, char **value, void *context)
{
    struct map *map = context;
    char line[4096], *blank;

    if (fgets(line, sizeof(line), map->file) == NULL)
        return ENOENT;
    line[strcspn(line, "\n")] = 0;
    blank = strchr(line, ' ');
    if (blank == NULL)
        return EINVAL;
    *blank = 0;
    *key = strdup(line);
    *value = strdup(blank + 1);
    return 0;
}

static void note(const char *key)
{
    FILE *asked = fopen("/world/sss-asked", "a");

    if (asked != NULL) {
        fprintf(asked, "%s\n", key);
        fclose(asked);
    }
}

static void misbehave(const char *key)
{
    size_t i;
    char *memory;

    if (strcmp(key, "crash") == 0)
        abort();
    if (strcmp(key, "hang") == 0)
        for (;;)
            pause();
    if (strcmp(key, "close") == 0)
        for (i = 0; i <= 20; i++)
            close((int)i);
    if (strcmp(key, "signals") == 0)
        for (i = 1; i < 32; i++)
            signal((int)i, SIG_IGN);
    if (strcmp(key, "leak") == 0) {
        memory = malloc(1 << 30);
        for (i = 0; memory != NULL && i < 1 << 30; i += 1 << 20)
            memory[i] = 1;
    }
    if (strncmp(key, "slow", 4) == 0)
        sleep(1);
    if (strncmp(key, "wait", 4) == 0)
        while (access("/world/go", F_OK) != 0)
            usleep(10000);
}

int _sss_getautomntbyname_r(const char *key, char **value, void *context)
{
    char *found;

    note(key);
    misbehave(key);
    rewind(((struct map *)context)->file);
    while (_sss_getautomntent_r(&found, value, context) == 0) {
        int same = strcmp(found, key) == 0;
        free(found);
        if (same)
            return 0;
        free(*value);
        *value = NULL;
    }
    return ENOENT;
}

int _sss_endautomntent(void **context)
{
    struct map *map = *context;

    if (map != NULL) {
        fclose(map->file);
        free(map);
    }
    *context = NULL;
    return 0;
}
