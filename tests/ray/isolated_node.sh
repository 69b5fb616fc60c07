#!/bin/sh
# Run a command in a mount namespace of its own, in which /tmp is empty and the project is a copy.
#
#     isolated_node.sh ROOT COPY VENV COMMAND...
#
# ROOT is the checkout, COPY its copy, and VENV the environment, which is the only thing that stays shared.
set -e
root=$1 copy=$2 venv=$3
shift 3
mount -t tmpfs tmpfs /mnt
mkdir /mnt/code /mnt/venv
mount --bind "$copy" /mnt/code
mount --bind "$venv" /mnt/venv
mount -t tmpfs tmpfs /tmp
mkdir -p "$root" "$venv"
mount --bind /mnt/code "$root"
mkdir -p "$venv"
mount --bind /mnt/venv "$venv"
cd "$root"
exec "$@"
