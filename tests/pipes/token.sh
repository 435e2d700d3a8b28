# A token exported by cryptsetup, joined by jq, decrypted by pc-unlock, opened by cryptsetup: no cluster file.
work=$(mktemp -d)
trap 'kill "$tang" 2>/dev/null || true; rm -rf "$work"' EXIT
mkdir "$work/keys"
/usr/libexec/tangd-keygen "$work/keys" > /dev/null
port=$(shuf -i 20000-32000 -n 1)
socat "TCP-LISTEN:$port,bind=127.0.0.1,reuseaddr,fork" "EXEC:/usr/libexec/tangd $work/keys" 2> /dev/null &
tang=$!
timeout 20 sh -c "until curl -sf -m 2 -o /dev/null http://127.0.0.1:$port/adv; do :; done"
disk=$work/disk
truncate -s 32M "$disk"
printf first | cryptsetup luksFormat --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --batch-mode --key-file - "$disk"
thp=$(jose jwk thp -i "$(grep -l '"verify"' "$work"/keys/*.jwk)")
printf first | pc-unlock bind --pin "{\"tang\":{\"url\":\"http://127.0.0.1:$port\",\"thp\":\"$thp\"}}" "$disk" > /dev/null

cryptsetup token export --token-id 0 "$disk" \
  | jq -r '.jwe | [.protected, .encrypted_key, .iv, .ciphertext, .tag] | join(".")' \
  | pc-unlock decrypt \
  | cryptsetup open --test-passphrase --key-file - "$disk"

# Without the server nothing comes out, and nothing is opened.
kill "$tang"; wait "$tang" 2> /dev/null || true
if out=$(cryptsetup token export --token-id 0 "$disk" | jq -c .jwe | pc-unlock decrypt 2> /dev/null); then exit 1; fi
[ -z "$out" ]
