# Installs the built programs, manual pages, documents, the service and the configuration. Cargo builds; make only copies.
#
#   make build                        # or: cargo build --release
#   make install                      # as a distribution does: /usr/sbin/automount
#   make install PREFIX=/usr/local    # beside the autofs package
#   make uninstall PREFIX=/usr/local
#
# Packagers set DESTDIR (or INSTALLROOT). Paths that are compiled in (maps, run directory, mount(8)) are set at build time:
# see build.rs. docs/PACKAGING.md has the rest.

# The name of DESTDIR in the makefile of autofs.
INSTALLROOT =
DESTDIR = $(INSTALLROOT)
PREFIX = /usr
BINDIR = $(PREFIX)/bin
SBINDIR = $(PREFIX)/sbin
MANDIR = $(PREFIX)/share/man
BASHDIR = $(PREFIX)/share/bash-completion/completions
ZSHDIR = $(PREFIX)/share/zsh/site-functions
FISHDIR = $(PREFIX)/share/fish/vendor_completions.d
DOCDIR = $(PREFIX)/share/doc/autofs-rs
UNITDIR = $(PREFIX)/lib/systemd/system
LIBEXECDIR = $(PREFIX)/libexec/autofs
# The directory where automount looks for maps: AUTOFS_MAPDIR of the build.
MAPDIR = /etc
CRIUDIR = /etc/criu
INITDIR = /etc/init.d
CONFDIR = /etc/conf.d
APPARMORDIR = /etc/apparmor.d
# notify-reload, or notify for systemd before 253.
UNITTYPE = notify-reload
EXECRELOAD = $(if $(filter notify,$(UNITTYPE)),; s|^#ExecReload=|ExecReload=|)
# The directory with the built programs.
TARGET = target/release

CARGO = cargo
# --frozen where the crates come from the archive of packaging/release.
CARGOFLAGS = --locked
INSTALL = install
CONFIGURATION = auto.master auto.misc autofs.conf autofs.toml
PROGRAMS = auto.net auto.smb
UNITS = autofs.service autofs@.service
PAGES5 = auto.master.5 autofs.5 autofs.conf.5 autofs.toml.5 autofs_ldap_auth.conf.5
PAGES8 = automount.8 autofs.8 autofsctl.8
# Installed below DOCDIR with the same relative paths, so that the links between them work.
DOCUMENTS = README.md CHANGELOG.md ARCHITECTURE.md SECURITY.md LICENSE-APACHE LICENSE-MIT $(wildcard docs/*.md) docs/autofsctl.schema.json

.PHONY: build install install-programs install-completions install-man install-unit install-doc install-configuration \
	install-criu install-openrc install-apparmor uninstall

# No path of the builder gets into the programs, so that they are the same bytes wherever they are built.
build:
	RUSTFLAGS="$${RUSTFLAGS-} --remap-path-prefix=$(CURDIR)=. --remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=cargo" \
		$(CARGO) build --release $(CARGOFLAGS) --bins

install: install-programs install-completions install-man install-unit install-doc install-configuration

install-programs:
	$(INSTALL) -D -m 755 $(TARGET)/automount $(DESTDIR)$(SBINDIR)/automount
	$(INSTALL) -D -m 755 $(TARGET)/autofsctl $(DESTDIR)$(BINDIR)/autofsctl

install-completions:
	$(INSTALL) -D -m 644 packaging/completions/autofsctl.bash $(DESTDIR)$(BASHDIR)/autofsctl
	$(INSTALL) -D -m 644 packaging/completions/_autofsctl $(DESTDIR)$(ZSHDIR)/_autofsctl
	$(INSTALL) -D -m 644 packaging/completions/autofsctl.fish $(DESTDIR)$(FISHDIR)/autofsctl.fish

install-man:
	for page in $(PAGES5); do $(INSTALL) -D -m 644 packaging/man/$$page $(DESTDIR)$(MANDIR)/man5/$$page || exit; done
	for page in $(PAGES8); do $(INSTALL) -D -m 644 packaging/man/$$page $(DESTDIR)$(MANDIR)/man8/$$page || exit; done

install-unit:
	$(INSTALL) -d $(DESTDIR)$(UNITDIR)
	for unit in $(UNITS); do \
		sed 's|@SBINDIR@|$(SBINDIR)|; s|^Type=.*|Type=$(UNITTYPE)|$(EXECRELOAD)' packaging/systemd/$$unit > $(DESTDIR)$(UNITDIR)/$$unit && \
		chmod 644 $(DESTDIR)$(UNITDIR)/$$unit || exit; \
	done

install-doc:
	for file in $(DOCUMENTS); do $(INSTALL) -D -m 644 $$file $(DESTDIR)$(DOCDIR)/$$file || exit; done

# Existing configuration files are not overwritten.
install-configuration:
	$(INSTALL) -d $(DESTDIR)$(MAPDIR)/auto.master.d
	for file in $(CONFIGURATION); do \
		test -e $(DESTDIR)$(MAPDIR)/$$file || $(INSTALL) -m 644 maps/$$file $(DESTDIR)$(MAPDIR)/$$file || exit; \
	done
	for file in $(PROGRAMS); do \
		test -e $(DESTDIR)$(MAPDIR)/$$file || $(INSTALL) -m 755 maps/$$file $(DESTDIR)$(MAPDIR)/$$file || exit; \
	done
	test -e $(DESTDIR)$(MAPDIR)/auto.master.d/README || \
		$(INSTALL) -m 644 maps/auto.master.d/README $(DESTDIR)$(MAPDIR)/auto.master.d/README

# What follows is not installed by default: it affects every container of the host, or is for other init systems.

install-criu:
	$(INSTALL) -D -m 755 packaging/criu/criu-action $(DESTDIR)$(LIBEXECDIR)/criu-action
	$(INSTALL) -d $(DESTDIR)$(CRIUDIR)
	test -e $(DESTDIR)$(CRIUDIR)/default.conf || { \
		sed 's|/usr/libexec/autofs|$(LIBEXECDIR)|' packaging/criu/default.conf > $(DESTDIR)$(CRIUDIR)/default.conf && \
		chmod 644 $(DESTDIR)$(CRIUDIR)/default.conf; }

install-openrc:
	$(INSTALL) -d $(DESTDIR)$(INITDIR)
	sed 's|@SBINDIR@|$(SBINDIR)|; s|@BINDIR@|$(BINDIR)|' packaging/openrc/autofs.initd > $(DESTDIR)$(INITDIR)/autofs
	chmod 755 $(DESTDIR)$(INITDIR)/autofs
	test -e $(DESTDIR)$(CONFDIR)/autofs || \
		$(INSTALL) -D -m 644 packaging/openrc/autofs.confd $(DESTDIR)$(CONFDIR)/autofs

install-apparmor:
	$(INSTALL) -d $(DESTDIR)$(APPARMORDIR)
	sed 's|@SBINDIR@|$(SBINDIR)|' packaging/apparmor/automount > $(DESTDIR)$(APPARMORDIR)/automount
	chmod 644 $(DESTDIR)$(APPARMORDIR)/automount

# Keeps the configuration, except for the line in default.conf that refers to a removed program.
uninstall:
	rm -f $(DESTDIR)$(SBINDIR)/automount $(DESTDIR)$(BINDIR)/autofsctl $(UNITS:%=$(DESTDIR)$(UNITDIR)/%)
	for page in $(PAGES5); do rm -f $(DESTDIR)$(MANDIR)/man5/$$page; done
	for page in $(PAGES8); do rm -f $(DESTDIR)$(MANDIR)/man8/$$page; done
	rm -f $(DESTDIR)$(BASHDIR)/autofsctl $(DESTDIR)$(ZSHDIR)/_autofsctl $(DESTDIR)$(FISHDIR)/autofsctl.fish
	for file in $(DOCUMENTS); do rm -f $(DESTDIR)$(DOCDIR)/$$file; done
	rm -f $(DESTDIR)$(LIBEXECDIR)/criu-action
	# A script of this name may be that of the autofs package.
	-for file in $(DESTDIR)$(INITDIR)/autofs $(DESTDIR)$(APPARMORDIR)/automount; do \
		if grep -q -s 'autofs-rs.*$(SBINDIR)/automount' $$file; then rm -f $$file; fi; \
	done
	-test ! -e $(DESTDIR)$(CRIUDIR)/default.conf || \
		sed -i '\|^action-script $(LIBEXECDIR)/criu-action$$|d' $(DESTDIR)$(CRIUDIR)/default.conf
	-test ! -d $(DESTDIR)$(LIBEXECDIR) || rmdir $(DESTDIR)$(LIBEXECDIR)
	-rmdir $(DESTDIR)$(DOCDIR)/docs $(DESTDIR)$(DOCDIR)
