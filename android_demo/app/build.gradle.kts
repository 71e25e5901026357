plugins {
    alias(libs.plugins.android.application) // AGP 9 brings Kotlin itself
}

android {
    namespace = "org.edgedeit.demo"
    compileSdk =
        libs.versions.compileSdk
            .get()
            .toInt()

    defaultConfig {
        applicationId = "org.edgedeit.demo"
        minSdk =
            libs.versions.minSdk
                .get()
                .toInt()
        targetSdk =
            libs.versions.compileSdk
                .get()
                .toInt()
        versionCode = 1
        versionName = libs.versions.app.get()
        buildConfigField("String", "LITERT_VERSION", "\"${libs.versions.litert.get()}\"")
        buildConfigField("String", "EXECUTORCH_VERSION", "\"${libs.versions.executorch.get()}\"")
        ndk { abiFilters += listOf("arm64-v8a", "x86_64") }
    }

    buildFeatures { buildConfig = true }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }

    packaging {
        jniLibs { pickFirsts += "**/libc++_shared.so" } // each runtime may bring the same one
    }

    androidResources {
        noCompress += listOf("tflite", "pte") // mapped from the APK, not unpacked
    }
}

dependencies {
    implementation(project(":core"))
    implementation(libs.litert)
    implementation(libs.executorch)
}
