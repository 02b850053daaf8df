#!/bin/sh
# Prints the home of a JDK 21 or later: JAVA_HOME, else the javac on the path, else the system's usual JVM folders.
# Exits 1 with a message where there is none.
set -u
need=21

release() { # the feature release of the JDK at $1; nothing where there is none
    [ -x "$1/bin/javac" ] && "$1/bin/javac" -version 2>&1 | sed -n 's/^javac \([0-9]*\).*/\1/p'
}

javac=$(command -v javac) && onpath=$(dirname "$(dirname "$(readlink -f "$javac")")") || onpath=
found=
for home in "${JAVA_HOME:-}" "$onpath" \
    /usr/lib/jvm/* /usr/java/* /opt/java/* /opt/jdk* "$HOME"/.sdkman/candidates/java/* \
    /Library/Java/JavaVirtualMachines/*/Contents/Home /opt/homebrew/opt/openjdk*/libexec/openjdk.jdk/Contents/Home; do
    [ -n "$home" ] || continue
    version=$(release "$home")
    [ -n "$version" ] || continue
    if [ "$version" -ge $need ]; then
        echo "$home"
        exit 0
    fi
    found="$found $home ($version)"
done
echo "no JDK $need or later: install one (Debian: a temurin-21-jdk or openjdk-21-jdk package; macOS: brew install" \
    "openjdk@21) or point JAVA_HOME at one.${found:+ Too old:$found.}" >&2
exit 1
