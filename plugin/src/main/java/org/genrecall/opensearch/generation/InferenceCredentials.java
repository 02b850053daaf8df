package org.genrecall.opensearch.generation;

import io.grpc.ChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import io.grpc.TlsChannelCredentials;

import org.genrecall.opensearch.GenrecallSettings;
import org.opensearch.common.settings.Setting;
import org.opensearch.common.settings.Settings;
import org.opensearch.common.settings.SettingsException;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.regex.Pattern;

/**
 * Plaintext, TLS, or TLS with a certificate of this node's, by its settings. Read when the node starts, and again by
 * {@code _nodes/reload_secure_settings}.
 */
public final class InferenceCredentials {

    private static final Pattern LOOPBACK = Pattern.compile("(localhost|127(\\.\\d+){3}|\\[::1]):\\d+");

    private InferenceCredentials() {}

    /**
     * @param settings with the secure settings open
     * @throws SettingsException where one lacks another that it needs, or a file cannot be used
     */
    public static ChannelCredentials of(Settings settings, Path configFolder) {
        String trusted = GenrecallSettings.TLS_TRUSTED_CERTIFICATES.get(settings);
        String certificate = GenrecallSettings.TLS_CERTIFICATE.get(settings);
        boolean key = GenrecallSettings.TLS_KEY.exists(settings);
        if (GenrecallSettings.TLS_ENABLED.get(settings) == false) {
            requireTls(trusted.isEmpty() == false, GenrecallSettings.TLS_TRUSTED_CERTIFICATES);
            requireTls(certificate.isEmpty() == false, GenrecallSettings.TLS_CERTIFICATE);
            requireTls(key, GenrecallSettings.TLS_KEY);
            return InsecureChannelCredentials.create();
        }
        if (key == certificate.isEmpty()) {
            throw new SettingsException(
                "a client certificate needs both [genrecall.tls.certificate], a PEM file in the configuration folder, and"
                    + " [genrecall.tls.key] in the keystore: bin/opensearch-keystore add-file genrecall.tls.key FILE"
            );
        }
        TlsChannelCredentials.Builder tls = TlsChannelCredentials.newBuilder();
        if (trusted.isEmpty() == false) {
            try (InputStream pem = Files.newInputStream(configFolder.resolve(trusted))) {
                tls.trustManager(pem);
            } catch (IOException e) {
                throw unreadable(GenrecallSettings.TLS_TRUSTED_CERTIFICATES, configFolder.resolve(trusted), e);
            }
        }
        if (key) {
            try (
                InputStream chain = Files.newInputStream(configFolder.resolve(certificate));
                InputStream secret = GenrecallSettings.TLS_KEY.get(settings)
            ) {
                tls.keyManager(chain, secret);
            } catch (IOException e) {
                throw unreadable(GenrecallSettings.TLS_CERTIFICATE, configFolder.resolve(certificate), e);
            }
        }
        return tls.build();
    }

    /** Of the endpoints, those to which queries go over a network unencrypted. */
    static List<String> inPlaintext(ChannelCredentials credentials, List<String> endpoints) {
        return credentials instanceof InsecureChannelCredentials
            ? endpoints.stream().filter(endpoint -> LOOPBACK.matcher(endpoint).matches() == false).toList()
            : List.of();
    }

    private static void requireTls(boolean set, Setting<?> setting) {
        if (set) {
            throw new SettingsException(
                "[" + setting.getKey() + "] is set, but [genrecall.tls.enabled] is not: set it to true, or remove the first"
            );
        }
    }

    private static SettingsException unreadable(Setting<?> setting, Path file, IOException cause) {
        return new SettingsException(
            "[" + setting.getKey() + "] [" + file + "] cannot be read: put the PEM file into the configuration folder",
            cause
        );
    }
}
