# debhelper has systemd reload its units only where it starts some, and installing ours starts nothing. Without this an
# upgraded unit, drop-in or generator would not be used before the next boot. A unit that systemd has never seen needs
# no reload, which runs every generator: a first installation ($2 is empty) reloads only for drop-ins and generators.
if [ "$1" = configure ] && [ -d /run/systemd/system ] && { [ -n "$2" ] || @FIRST@; }; then
	systemctl --system daemon-reload || true
fi
