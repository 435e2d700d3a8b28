# debhelper has systemd reload its units only where it starts some, and installing ours starts nothing. Without this an
# upgraded unit, drop-in or generator would not be used before the next boot.
if [ "$1" = configure ] && [ -d /run/systemd/system ]; then
	systemctl --system daemon-reload || true
fi
