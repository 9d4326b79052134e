/* Headers before 6.7 (asm-generic) say 32 unless told otherwise. */
#define __BITS_PER_LONG (__CHAR_BIT__ * __SIZEOF_LONG__)
#include <asm-generic/bitsperlong.h>
