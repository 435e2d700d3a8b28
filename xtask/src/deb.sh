# Runs inside the build root: /source and /vendor in, /out out.
mkdir -p /build/cargo
cat > /build/cargo/config.toml <<'EOF'
[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = "/vendor"
EOF
export CARGO_HOME=/build/cargo CARGO_TARGET_DIR=/target CARGO_NET_OFFLINE=true
work=/build/personal-cluster
rm -rf "$work" && mkdir -p "$work"
cp -a /source "$work/source"
cd "$work/source"
dpkg-buildpackage --build=binary --no-sign --no-pre-clean -rfakeroot > /out/build.log 2>&1 || { tail -n 60 /out/build.log >&2; exit 1; }
cp "$work"/*.deb "$work"/*.changes "$work"/*.buildinfo /out/
cd /out
dpkg-scanpackages --multiversion . > Packages 2> /dev/null
apt-ftparchive -o APT::FTPArchive::Release::Origin=personal-cluster \
  -o APT::FTPArchive::Release::Label=personal-cluster release . > Release.new
mv Release.new Release
chmod -R a+rX /out
