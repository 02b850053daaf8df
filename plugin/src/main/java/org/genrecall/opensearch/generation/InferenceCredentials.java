package org.genrecall.opensearch.generation;

import io.grpc.ChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import io.grpc.TlsChannelCredentials;

import org.genrecall.opensearch.GenrecallSettings;
import org.opensearch.common.settings.Settings;
import org.opensearch.common.settings.SettingsException;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;

/** Plaintext or TLS, by the node's settings. Read once, when the node starts. */
public final class InferenceCredentials {

    private InferenceCredentials() {}

    /** @throws SettingsException where the trusted certificates cannot be read */
    public static ChannelCredentials of(Settings settings, Path configFolder) {
        String trusted = GenrecallSettings.TLS_TRUSTED_CERTIFICATES.get(settings);
        if (GenrecallSettings.TLS_ENABLED.get(settings) == false) {
            if (trusted.isEmpty() == false) {
                throw new SettingsException(
                    "[genrecall.tls.trusted_certificates] is set, but [genrecall.tls.enabled] is not: set it to true, or remove the first"
                );
            }
            return InsecureChannelCredentials.create();
        }
        if (trusted.isEmpty()) {
            return TlsChannelCredentials.create();
        }
        Path file = configFolder.resolve(trusted);
        try (InputStream pem = Files.newInputStream(file)) {
            return TlsChannelCredentials.newBuilder().trustManager(pem).build();
        } catch (IOException e) {
            throw new SettingsException(
                "[genrecall.tls.trusted_certificates] [" + file + "] cannot be read: put the PEM file into the configuration folder",
                e
            );
        }
    }
}
