arch     srv:/bin/$ARCH/${CPU}/$OSNAME
host     $HOST.$SITE:/x/$SHOST
user     srv:/u/$USER-${UID}/$GID
unknown  srv:/x${NOPE}y
kept     srv:/a\$b/\&/"$SITE &"/c$
cut      srv:/x/${SITE
colons   srv:/one:two\:three
