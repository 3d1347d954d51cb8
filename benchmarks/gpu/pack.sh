#!/usr/bin/env bash
# Gathers what a lent machine with a GPU lacks into three folders of at most 60 MiB each, .cache/gpu/1 to 3: wheels (Hydra and what
# it needs, lightly, accelerate), and texts, CIFAR-10 and CIFAR-100 from $SSL_ZOO_DATA. On that machine, each in turn: cp -r .cache/gpu/N/. /tmp/gpu
# PYTHON_VERSION: that machine's (3.12).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
data="${SSL_ZOO_DATA:?names the folder of data sets}"
to=.cache/gpu
rm -rf "$to"
mkdir -p "$to/1/wheels" "$to"/{1,2,3}/data/cifar10 "$to/3/data/cifar100"

pip="${PIP:-.venv/bin/python -m pip}"
for package in hydra-core omegaconf PyYAML lightly lightly-utils aenum accelerate; do
    $pip download --quiet --no-deps --only-binary=:all: --python-version "${PYTHON_VERSION:-3.12}" --implementation cp \
        --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux_2_28_x86_64 --constraint requirements.lock --dest "$to/1/wheels" "$package"
done
$pip wheel --quiet --no-deps --wheel-dir "$to/1/wheels" antlr4-python3-runtime==4.9.3 # a source package: no wheel of it is published

cp "$data"/cifar10/{classes.txt,manifest.tsv.gz,train-00000[01].tar.gz} "$to/1/data/cifar10"
cp "$data"/cifar10/train-00000[234].tar.gz "$to/2/data/cifar10"
cp "$data"/cifar10/test-*.tar.gz "$to/3/data/cifar10"
cp "$data"/cifar100/* "$to/3/data/cifar100"
cp -r "$data"/text "$data"/text_cls "$to/3/data"
chmod -R u+w "$to"

for part in "$to"/?; do
    size=$(du -sm "$part" | cut -f1)
    echo "$part: $size MiB"
    ((size <= 60)) || { echo "$part is larger than 60 MiB" >&2; exit 1; }
done
