/* <linux/auto_dev-ioctl.h> has an inline function that calls it. */
void *memset(void *, int, __SIZE_TYPE__);
