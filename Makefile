# One install for every distribution: debian/rules and nix/package.nix both call it.
#   make install DESTDIR=... [BINDIR=target/release] [PREFIX=/usr] [UNITDIR=...]
PREFIX  ?= /usr
BINDIR  ?= target/release
UNITDIR ?= $(PREFIX)/lib/systemd/system
OCFDIR  ?= $(PREFIX)/lib/ocf/resource.d
GENDIR  ?= $(PREFIX)/lib/systemd/system-generators
BIN      = $(DESTDIR)$(PREFIX)/bin
MAN      = $(DESTDIR)$(PREFIX)/share/man/man8
BASH     = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
ZSH      = $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions
FISH     = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
TOOLS    = $(notdir $(wildcard tools/*))
# The generator is run by systemd, never by a person: it has a man page but no place on PATH.
COMMANDS = $(filter-out pc-generator,$(TOOLS))

.PHONY: build install
build:
	cargo build --release --locked --workspace --exclude xtask

install:
	install -d $(BIN) $(MAN) $(BASH) $(ZSH) $(FISH) $(DESTDIR)$(GENDIR) $(DESTDIR)$(UNITDIR)
	install -m 0755 $(BINDIR)/pc-generator $(DESTDIR)$(GENDIR)/pc-generator
	for tool in $(COMMANDS); do \
	  install -m 0755 $(BINDIR)/$$tool $(BIN)/$$tool && \
	  $(BINDIR)/$$tool --generate bash > $(BASH)/$$tool && \
	  $(BINDIR)/$$tool --generate zsh > $(ZSH)/_$$tool && \
	  $(BINDIR)/$$tool --generate fish > $(FISH)/$$tool.fish && \
	  $(BINDIR)/$$tool --generate man > $(MAN)/$$tool.8 || exit 1; \
	done
	install -m 0644 docs/man/*.8 $(MAN)
	install -d $(DESTDIR)$(PREFIX)/share/man/man7
	install -m 0644 docs/man/*.7 $(DESTDIR)$(PREFIX)/share/man/man7
	cp -r --preserve=mode --no-dereference units/. $(DESTDIR)$(UNITDIR)/
	install -d $(DESTDIR)$(PREFIX)/lib/udev/rules.d
	install -m 0644 udev/*.rules $(DESTDIR)$(PREFIX)/lib/udev/rules.d
	install -d $(DESTDIR)$(OCFDIR)/personal-cluster
	install -m 0755 tools/pc-ha/ocf/pc-vm tools/pc-ha/ocf/pc-volume $(DESTDIR)$(OCFDIR)/personal-cluster
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/logind.conf.d
	install -m 0644 tools/pc-ha/logind.conf $(DESTDIR)$(PREFIX)/lib/systemd/logind.conf.d/50-personal-cluster.conf
	install -d $(DESTDIR)$(PREFIX)/share/doc/personal-cluster/examples/dashboards
	install -m 0644 examples/*.toml $(DESTDIR)$(PREFIX)/share/doc/personal-cluster/examples
	install -m 0644 telemetry/dashboards/*.json $(DESTDIR)$(PREFIX)/share/doc/personal-cluster/examples/dashboards
